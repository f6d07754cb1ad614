/** A record of the audit log in words. Pure. */

import type { AuditRecord } from '../api/types';
import { t } from '../i18n';

export function actionWords({ action }: Pick<AuditRecord, 'action'>): string {
  return t.activity.actions[action] ?? action;
}

/** Whom or what it was done to; left out where it would repeat who did it. */
export function subjectWords({ action, subject, actor }: Pick<AuditRecord, 'action' | 'subject' | 'actor'>): string {
  if (subject === actor) return '';
  if (action === 'setup.step') return t.activity.steps[subject] ?? subject;
  if (action === 'config.update') return t.activity.settings[subject] ?? subject;
  return subject;
}

const PEER = /^internet (true|false), peer to peer (true|false), services (.+); (full|split); (.+)$/;

/** What it was done with. The log's own words where they are not known here. */
export function detailWords({ action, detail }: Pick<AuditRecord, 'action' | 'detail'>): string {
  if (action === 'user.create') return t.people.roles[detail.replace(/^role /, '')] ?? detail;
  const [, internet, p2p, services = '', tunnel, key = ''] = PEER.exec(detail) ?? [];
  if (!tunnel) return detail;
  const reach = [
    internet === 'true' && t.devices.internet,
    p2p === 'true' && t.devices.peerToPeer,
    services !== 'none' && services,
  ].filter((word) => word !== false);
  const carried = tunnel === 'full' ? t.device.tunnelFull : t.device.tunnelSplit;
  return [`${t.devices.access}: ${reach.join(', ') || t.devices.nothing}`, carried, t.activity.keys[key] ?? key].join(
    ' · ',
  );
}
