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
