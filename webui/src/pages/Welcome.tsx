/** The end of the first run: the first device, or straight on. */

import { useState } from 'react';
import { Link, useLocation } from 'wouter';
import { AddDevice } from '../components/AddDevice';
import { buttonClass } from '../components/Button';
import { Plain } from '../components/Plain';
import { t } from '../i18n';
import { paths } from '../lib/paths';
import { useLive } from '../lib/useLive';
import { useTitle } from '../lib/useTitle';

export default function Welcome() {
  useTitle(t.setup.welcome.title);
  // For the first handshake to show by itself.
  useLive(true);
  const [, navigate] = useLocation();
  const [name, setName] = useState<string>();
  return (
    <Plain
      title={name ? t.ready.title(name) : t.setup.welcome.title}
      {...(!name && { text: t.setup.welcome.text })}
      wide
    >
      <AddDevice onReady={setName} onDone={() => navigate(paths.home, { replace: true })} />
      {!name && (
        <Link href={paths.home} replace className={buttonClass('quiet', 'mt-3 w-full')}>
          {t.setup.welcome.skip}
        </Link>
      )}
    </Plain>
  );
}
