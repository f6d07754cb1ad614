import { fullAccess, type PeerAccess } from '../api/types';
import { t } from '../i18n';

/** What a device may reach, in a word or three. */
export function AccessSummary({ access }: { access: PeerAccess }) {
  const { internet, peer_to_peer, services } = fullAccess(access);
  const words = [
    internet && t.devices.internet,
    peer_to_peer && t.devices.peerToPeer,
    services.length > 0 && t.devices.services(services.length),
  ].filter((word) => word !== false);
  if (words.length === 0) return <span className="text-muted text-sm">{t.devices.nothing}</span>;
  return (
    <ul className="flex flex-wrap gap-1.5">
      {words.map((word) => (
        <li key={word} className="whitespace-nowrap rounded-full bg-accent-soft px-2.5 py-0.5 text-accent text-xs">
          {word}
        </li>
      ))}
    </ul>
  );
}
