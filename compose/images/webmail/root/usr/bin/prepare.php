<?php
// Makes the database, and brings one of an older Roundcube up to date; its scripts for that ask for a shell.
define('INSTALL_PATH', '/var/lib/roundcube/');
require INSTALL_PATH . 'program/include/clisetup.php';
$db = rcmail::get_instance()->get_dbh();
$db->db_connect('w');
if (!$db->is_connected()) {
    fwrite(STDERR, "the database /data/webmail.db cannot be opened\n");
    exit(1);
}
// One that is new it has made from SQL/sqlite.initial.sql when it was opened.
$done = rcmail_utils::db_update(INSTALL_PATH . 'SQL', 'roundcube', null, ['quiet' => true]);
exit($done === false ? 1 : 0);
