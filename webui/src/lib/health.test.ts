import { describe, expect, it } from 'vitest';
import { STATUS } from '../test/cell';
import { healthOf, partLevel } from './health';

describe('health', () => {
  it('is good when all parts answer and the network is as asked', () => {
    expect(healthOf(STATUS)).toMatchObject({ level: 'good', problems: [] });
  });

  it('is busy while a change is not in force', () => {
    expect(healthOf({ ...STATUS, generation: 4 }).level).toBe('busy');
  });

  it('names each silent part and each untrue condition, but Docker is not missed', () => {
    const daemons = [
      { name: 'vault', reachable: false, conditions: [] },
      {
        name: 'netd',
        reachable: true,
        conditions: [
          { type: 'NewOne', status: 'false' as const, reason: 'DRIFT', message: 'a rule is gone' },
          {
            type: 'MemoryLocked',
            status: 'false' as const,
            reason: 'LIMIT',
            message: 'RLIMIT_MEMLOCK is 8388608 bytes',
          },
        ],
      },
      {
        name: 'broker',
        reachable: true,
        conditions: [{ type: 'DockerReachable', status: 'false' as const, reason: 'NONE', message: 'no Docker' }],
      },
    ];
    const health = healthOf({ ...STATUS, daemons });
    expect(daemons.map(partLevel)).toEqual(['silent', 'care', 'good']);
    expect(health.level).toBe('bad');
    expect(health.problems.map((problem) => problem.text)).toEqual([
      'Keys and certificates: does not answer',
      'Network: a rule is gone',
      'Network: this machine may write keys to its swap space',
    ]);
  });
});
