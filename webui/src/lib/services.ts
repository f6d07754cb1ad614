/** What a service's state means, and what its form takes. Pure. */

import type { FormField, RemoteCatalog, Service } from '../api/types';
import { s } from '../i18n/services';

/** As a person sees it. `attention`: it runs, but not as it was asked to. */
export type State = 'installing' | 'updating' | 'removing' | 'failed' | 'stopped' | 'attention' | 'closed' | 'running';

export function stateOf(service: Pick<Service, 'phase' | 'stopped' | 'error' | 'published' | 'purpose'>): State {
  if (service.phase !== 'installed') return service.phase;
  if (service.stopped) return 'stopped';
  if (service.error) return 'attention';
  return service.published || service.purpose === 'core' ? 'running' : 'closed';
}

/** Whether something is being done with it by itself. */
export const isUnderWay = ({ phase }: Pick<Service, 'phase'>): boolean =>
  phase === 'installing' || phase === 'updating' || phase === 'removing';

const STEPS: Readonly<Record<string, readonly string[]>> = {
  installing: ['network', 'manifest', 'images', 'deploy', 'publish'],
  updating: ['manifest', 'images', 'deploy', 'publish', 'health'],
  removing: ['withdraw', 'undeploy', 'free'],
};

/** The steps of what is under way, and the place of the one that is being done. */
export function stepsOf({ phase, step }: Pick<Service, 'phase' | 'step'>): { steps: readonly string[]; at: number } {
  // An update that goes back does one thing alone.
  const steps = step === 'roll_back' || step === 'revert' ? [step] : (STEPS[phase] ?? []);
  return { steps, at: steps.indexOf(step) };
}

/** Whether a service waits because nothing can be deployed on this machine. */
export const lacksDocker = ({ waiting, error }: Pick<Service, 'waiting' | 'error'>): boolean =>
  [waiting?.code, error?.code].some((code) => code === 'NO_CEILING' || code === 'NO_DOCKER');

const LABEL = '[a-z0-9](?:[a-z0-9\\-]{0,61}[a-z0-9])?';
const HOSTNAME = `${LABEL}(?:\\.${LABEL})*`;
const WORD = '[A-Za-z0-9_][A-Za-z0-9._\\-]*';

/** As the manifest has them (`manifest/src/field.rs`): what `pattern` of an input takes. */
const PATTERNS: Readonly<Record<string, string>> = {
  label: LABEL,
  hostname: HOSTNAME,
  word: WORD,
  email: `${WORD}@${HOSTNAME}`,
};

export const patternOf = (field: Pick<FormField, 'pattern'>): string | undefined => PATTERNS[field.pattern ?? ''];

/** What a form shows before anybody has typed: what is set, else the defaults. */
export function shownValues(form: readonly FormField[], set: Record<string, string>): Record<string, string> {
  return Object.fromEntries(form.map((field) => [field.name, set[field.name] ?? field.default ?? firstOf(field)]));
}

/** With the cell's own domain where a form asks for one and proposes none: what nearly everybody means, shown before it is sent. */
export function withDomain(
  form: readonly FormField[],
  values: Record<string, string>,
  domain: string | undefined,
): Record<string, string> {
  const asks = (field: FormField) => field.name === 'domain' && field.pattern === 'hostname' && field.default === null;
  return domain && form.some(asks) ? { ...values, domain } : values;
}

/** What cannot be empty begins somewhere. */
function firstOf(field: FormField): string {
  if (field.kind === 'boolean') return 'false';
  return field.kind === 'enum' ? (field.values[0] ?? '') : '';
}

/** What is sent: what differs from the defaults. An emptied field has its default again. */
export function sentValues(form: readonly FormField[], shown: Record<string, string>): Record<string, string> {
  const told = form.flatMap((field) => {
    const value = shown[field.name] ?? '';
    const isDefault = field.default !== null && (value === field.default || value === '');
    return isDefault || (value === '' && field.kind !== 'string') ? [] : [[field.name, value] as const];
  });
  return Object.fromEntries(told);
}

/** Whether everything that has to be set is. */
export function isFilled(form: readonly FormField[], shown: Record<string, string>): boolean {
  return form.every((field) => field.default !== null || (shown[field.name] ?? '') !== '');
}

/** Names by which the server complains about a form's fields. */
export const formFields = (form: readonly FormField[]): string[] => form.map(({ name }) => `parameters.${name}`);

/** Services of a catalog that a search finds: every word somewhere. */
export function search<T extends { id: string; title: string; description: string }>(
  all: readonly T[],
  text: string,
): T[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter(({ id, title, description }) => {
    const hay = `${id} ${title} ${description}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  });
}

/** How a remote catalog is, in a sentence, and whether that is bad. */
export function stateOfCatalog(one: RemoteCatalog): { bad: boolean; text: string } {
  if (one.refreshing) return { bad: false, text: s.remote.fetching(one.fetched, one.to_fetch) };
  if (one.error) return { bad: true, text: s.remote.failed(one.error) };
  if (one.expired) return { bad: true, text: s.remote.expired };
  if (one.serial === null) return { bad: false, text: s.remote.never };
  return { bad: false, text: s.remote.services(one.services) };
}
