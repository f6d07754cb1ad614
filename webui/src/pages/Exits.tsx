/** Exits: what there is, whether it works, and which device uses which. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus, Waypoints } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { connectionsQuery, peersQuery } from '../api/queries';
import type { Connection, Peer } from '../api/types';
import { Button } from '../components/Button';
import { Card, PageHeader } from '../components/Card';
import { Confirm } from '../components/Confirm';
import { Dialog } from '../components/Dialog';
import { ErrorNote } from '../components/ErrorNote';
import { ExitForm } from '../components/ExitForm';
import { ExitMatrix } from '../components/ExitMatrix';
import { Field } from '../components/Field';
import { Health, Proven } from '../components/Health';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { isCarried, usersOf } from '../lib/exits';
import { useAction } from '../lib/useAction';
import { useTitle } from '../lib/useTitle';

/** Devices that are named with their exit. */
const NAMED = 3;

type Open = { kind: 'add' } | { kind: 'replace' | 'rename' | 'remove'; connection: Connection };

export default function Exits() {
  useTitle(t.exits.title);
  const queries = useQueryClient();
  const connections = useQuery(connectionsQuery);
  const peers = useQuery(peersQuery);
  const [open, setOpen] = useState<Open>();
  const [notes, setNotes] = useState<string[]>([]);
  const close = () => setOpen(undefined);
  const reload = () => void queries.invalidateQueries({ queryKey: connectionsQuery.queryKey });
  const saved = (told: string[]) => {
    setNotes(told);
    reload();
    close();
  };
  const add = (
    <Button kind="primary" onClick={() => setOpen({ kind: 'add' })}>
      <Plus aria-hidden className="size-4" />
      {t.exits.add}
    </Button>
  );
  return (
    <>
      <PageHeader title={t.exits.title} text={t.exits.text}>
        {(connections.data?.length ?? 0) > 0 && add}
      </PageHeader>
      <div className="flex flex-col gap-5">
        <Notes notes={notes} />
        <Loaded query={connections} rows={3}>
          {(all) =>
            all.length === 0 ? (
              <Empty icon={<Waypoints aria-hidden className="size-7" />} title={t.exits.empty} text={t.exits.emptyText}>
                {add}
              </Empty>
            ) : (
              <>
                <ul
                  aria-label={t.exits.list}
                  className="divide-y divide-line rounded-2xl border border-line bg-card shadow-card"
                >
                  {all.map((connection) => (
                    <Exit key={connection.id} connection={connection} peers={peers.data} onOpen={setOpen} />
                  ))}
                </ul>
                <Card title={t.exits.matrix}>
                  <Loaded query={peers} rows={3}>
                    {(devices) => <ExitMatrix peers={devices} connections={all} />}
                  </Loaded>
                </Card>
              </>
            )
          }
        </Loaded>
      </div>
      {open?.kind === 'add' && (
        <Dialog title={t.exits.addTitle} onClose={close}>
          <ExitForm onSaved={saved} />
        </Dialog>
      )}
      {open?.kind === 'replace' && (
        <Dialog title={t.exits.replaceTitle(open.connection.name)} onClose={close}>
          <ExitForm connection={open.connection} onSaved={saved} />
        </Dialog>
      )}
      {open?.kind === 'rename' && <Rename connection={open.connection} onSaved={reload} onClose={close} />}
      {open?.kind === 'remove' && (
        <Confirm
          title={t.exits.removeTitle(open.connection.name)}
          text={t.exits.removeText}
          confirm={t.exits.remove}
          act={async () => {
            await sdk.deleteConnection({ path: { id: open.connection.id } });
            reload();
          }}
          onClose={close}
        />
      )}
    </>
  );
}

function Notes({ notes }: { notes: string[] }) {
  return (
    <div role="status" className={notes.length > 0 ? '' : '-mb-5'}>
      {notes.length > 0 && (
        <div className="rounded-xl bg-warn-soft p-4 text-sm text-warn">
          <p>{t.exits.notesTitle}</p>
          <ul className="mt-1 list-disc ps-4">
            {notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}

interface ExitProps {
  connection: Connection;
  peers: readonly Peer[] | undefined;
  onOpen: (open: Open) => void;
}

function Exit({ connection, peers, onOpen }: ExitProps) {
  const users = peers && usersOf(connection, peers);
  const servers = connection.config.servers.map(({ host, port }) =>
    host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
  );
  const act = (kind: 'replace' | 'rename' | 'remove') => (
    <Button
      kind={kind === 'remove' ? 'warning' : 'secondary'}
      aria-label={`${t.exits[kind]}: ${connection.name}`}
      onClick={() => onOpen({ kind, connection })}
    >
      {t.exits[kind]}
    </Button>
  );
  return (
    <li className="flex flex-wrap items-start justify-between gap-x-6 gap-y-3 px-5 py-4">
      <div className="min-w-0 flex-1 basis-72">
        <p className="break-words font-medium">{connection.name}</p>
        <p className="break-words text-muted text-sm">
          {[t.exits.types[connection.type] ?? connection.type, ...servers].join(' · ')}
        </p>
        <div className="mt-2">
          <Health status={connection.status} />
          <p className="break-words text-muted text-sm first-letter:uppercase">{connection.status.detail}</p>
          <Proven at={connection.status.proven_at} />
        </div>
        <p className="mt-1 break-words text-sm">
          {isCarried(connection)
            ? users
              ? t.exits.users(users.slice(0, NAMED), Math.max(0, users.length - NAMED))
              : t.app.unknown
            : t.exits.notCarried}
        </p>
      </div>
      <div className="flex flex-wrap gap-2">
        {act('rename')}
        {connection.type !== 'tor' && act('replace')}
        {act('remove')}
      </div>
    </li>
  );
}

function Rename({
  connection,
  onSaved,
  onClose,
}: {
  connection: Connection;
  onSaved: () => void;
  onClose: () => void;
}) {
  const action = useAction();
  const [name, setName] = useState(connection.name);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const done = await action.run(async () => {
      await sdk.updateConnection({ path: { id: connection.id }, body: { name } });
      onSaved();
    });
    if (done) onClose();
  };
  const { byField } = splitViolations(action.error, ['name']);
  return (
    <Dialog title={t.exits.renameTitle(connection.name)} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-4">
        <ErrorNote error={action.error} fields={['name']} />
        <Field
          label={t.exits.name}
          name="name"
          value={name}
          onChange={(event) => setName(event.target.value)}
          error={byField.name}
          autoFocus
          required
        />
        <Button kind="primary" type="submit" pending={action.pending} className="self-end">
          {action.pending ? t.app.saving : t.app.save}
        </Button>
      </form>
    </Dialog>
  );
}
