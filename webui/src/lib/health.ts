/** One sentence about the cell, and why. Pure. */

import type { Status } from '../api/types';
import { t } from '../i18n';

export type Level = 'good' | 'busy' | 'bad';

export interface Health {
  level: Level;
  sentence: string;
  problems: Problem[];
}

export interface Problem {
  daemon: string;
  text: string;
}

/** A cell without Docker, or without units to check callers by, is a whole cell: these are told, not complained about. */
const OPTIONAL = new Set(['DockerReachable', 'CallerUnitChecked']);

/** A condition that is not true is a problem, unless it is optional. */
export function healthOf(status: Status): Health {
  const problems = status.daemons.flatMap(problemsOf);
  if (problems.length > 0) return { level: 'bad', sentence: t.home.problems(problems.length), problems };
  if (status.observed_generation < status.generation) {
    return { level: 'busy', sentence: t.home.applying, problems };
  }
  return { level: 'good', sentence: t.home.allWell, problems };
}

/** Whether a part answers, and has nothing to complain about. */
export function partLevel(daemon: Status['daemons'][number]): 'good' | 'care' | 'silent' {
  if (!daemon.reachable) return 'silent';
  return problemsOf(daemon).length > 0 ? 'care' : 'good';
}

function problemsOf(daemon: Status['daemons'][number]): Problem[] {
  const name = t.daemons[daemon.name as keyof typeof t.daemons] ?? daemon.name;
  if (!daemon.reachable) return [{ daemon: daemon.name, text: t.home.daemonSilent(name) }];
  return daemon.conditions
    .filter((condition) => condition.status === 'false' && !OPTIONAL.has(condition.type))
    .map((condition) => ({
      daemon: daemon.name,
      text: `${name}: ${t.home.conditionFails[condition.type] ?? (condition.message || condition.reason || condition.type)}`,
    }));
}
