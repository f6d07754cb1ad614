/** Which devices may use one service: a switch for all, and one for each. */

import { useQuery } from '@tanstack/react-query';
import { peersQuery } from '../api/queries';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import { useAccess } from '../lib/useAccess';
import { ErrorNote } from './ErrorNote';
import { Switch } from './Field';
import { PeerPicker } from './PeerPicker';
import { Loaded } from './States';

export function ServiceAccess({ service }: { service: Service }) {
  const peers = useQuery(peersQuery);
  const { shown, turn, errors } = useAccess();
  const { everyone, peers: allowed } = shown(service);
  return (
    <div className="flex flex-col gap-2">
      <p className="text-muted text-sm">{s.access.text}</p>
      <ErrorNote error={errors[service.name]} />
      <Switch
        label={s.access.everyone}
        help={s.access.everyoneText}
        checked={everyone}
        onChange={(on) => turn(service.name, { everyone: on })}
      />
      {everyone ? (
        <p className="text-muted">{s.access.all(service.title)}</p>
      ) : (
        <Loaded query={peers} rows={2}>
          {(devices) => (
            <PeerPicker
              label={s.access.devices}
              all={devices.map((peer) => peer.name)}
              chosen={allowed}
              onToggle={(peer, may) => turn(service.name, { peer, may })}
            />
          )}
        </Loaded>
      )}
    </div>
  );
}
