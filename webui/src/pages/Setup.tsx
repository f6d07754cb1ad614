/** The first run: four questions, each checked by the cell before the next; going back is always possible. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { claimHeader, data, forgetCsrfToken, hasClaimToken, sdk, setClaimToken } from '../api/client';
import { setSession, setupQuery } from '../api/queries';
import type { SetupStatus } from '../api/types';
import { Button } from '../components/Button';
import { Plain } from '../components/Plain';
import { Loaded } from '../components/States';
import { t } from '../i18n';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';
import { AdminStep, ClaimStep, IdentityStep, NetworkStep, Stored } from './SetupSteps';

const STEPS = ['claim', 'identity', 'network', 'admin'] as const;
type Step = (typeof STEPS)[number];

export default function Setup() {
  useTitle(t.setup.title);
  const setup = useQuery(setupQuery);
  return (
    <Loaded query={setup} rows={3}>
      {(status) => <Wizard status={status} />}
    </Loaded>
  );
}

function Wizard({ status }: { status: SetupStatus }) {
  const queries = useQueryClient();
  const [, navigate] = useLocation();
  const [step, setStep] = useState<Step>(() => firstStep(status));
  const index = STEPS.indexOf(step);
  const answered = (next: SetupStatus) => {
    queries.setQueryData(setupQuery.queryKey, next);
    const following = STEPS[index + 1];
    if (following) setStep(following);
  };
  const finish = async (username: string, password: string) => {
    await sdk.completeSetup({ body: {}, headers: claimHeader() });
    setClaimToken(undefined);
    const me = await data(sdk.login({ body: { username, password } }));
    forgetCsrfToken();
    navigate(paths.welcome, { replace: true });
    setSession(queries, { kind: 'signed-in', me });
  };
  const words = t.setup[step];
  return (
    <Plain title={words.title} text={words.text} wide>
      <Progress index={index} />
      {step === 'claim' && <ClaimStep again={status.claimed} onAnswered={answered} />}
      {step === 'identity' && (
        <Stored step={step}>{(stored) => <IdentityStep stored={stored} onAnswered={answered} />}</Stored>
      )}
      {step === 'network' && (
        <Stored step={step}>{(stored) => <NetworkStep stored={stored} onAnswered={answered} />}</Stored>
      )}
      {step === 'admin' && <AdminStep onAnswered={answered} onFinish={finish} />}
      {index > 1 && (
        <Button kind="quiet" className="mt-3 w-full" onClick={() => setStep(STEPS[index - 1] ?? 'claim')}>
          {t.app.back}
        </Button>
      )}
    </Plain>
  );
}

/** Without the code in memory (a reload), it is asked for again, whatever has been answered. */
function firstStep(status: SetupStatus): Step {
  if (!hasClaimToken()) return 'claim';
  return STEPS.find((step) => !status.answered_steps.includes(step)) ?? 'admin';
}

function Progress({ index }: { index: number }) {
  return (
    <div className="mb-6">
      <p className="text-muted text-sm" aria-live="polite">
        {t.setup.progress(index + 1, STEPS.length)}
      </p>
      <ol aria-hidden className="mt-2 grid grid-cols-4 gap-1.5">
        {STEPS.map((step, i) => (
          <li key={step} className={`h-1.5 rounded-full ${i <= index ? 'bg-accent' : 'bg-hover'}`} />
        ))}
      </ol>
    </div>
  );
}
