<?php
// One for all cells: the domain comes by the environment, the key of sessions lies in the volume.
$config = [];
$config['db_dsnw'] = 'sqlite:////data/webmail.db?mode=0600';
$config['des_key'] = trim(file_get_contents('/data/key'));
// By the names that they have in the network of the service. It is of these containers alone, and none can send from another's
// address, so who answers is who was meant; the certificate is of the name that devices use, by an authority of the cell's.
$config['imap_host'] = 'ssl://dovecot:993';
$config['smtp_host'] = 'tls://exim:587';
$config['imap_conn_options'] = $config['smtp_conn_options'] = [
    'ssl' => ['verify_peer' => false, 'verify_peer_name' => false],
];
$config['imap_auth_type'] = 'PLAIN';
$config['smtp_auth_type'] = 'PLAIN';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['smtp_helo_host'] = 'webmail';
$config['mail_domain'] = getenv('MAIL_DOMAIN');
// Both alice and alice@domain are alice.
$config['login_lc'] = 2;
$config['username_domain'] = '';
$config['login_username_filter'] = '/^[a-z0-9._-]{1,32}$/';
// The proxy speaks TLS with browsers.
$config['use_https'] = true;
$config['session_samesite'] = 'Strict';
$config['session_lifetime'] = 30;
$config['login_rate_limit'] = 5;
$config['product_name'] = 'Mail';
$config['support_url'] = '';
$config['enable_installer'] = false;
$config['enable_spellcheck'] = false;
// Nothing that a next account of the same name would find here: mail, drafts and folders are Dovecot's, which removes them with the account.
$config['address_book_type'] = '';
$config['identities_level'] = 3;
$config['disabled_actions'] = ['addressbook.index', 'settings.identities', 'settings.responses', 'settings.edit-identity', 'settings.edit-response'];
$config['collected_recipients'] = false;
$config['collected_senders'] = false;
$config['plugins'] = [];
$config['skin'] = 'elastic';
$config['language'] = null;
// Pictures of others tell them who reads.
$config['show_images'] = 0;
$config['log_driver'] = 'stdout';
$config['log_logins'] = false;
$config['log_dir'] = '/tmp/';
$config['temp_dir'] = '/tmp/';
$config['mime_types'] = '/etc/mime.types';
