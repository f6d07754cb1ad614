/** A device's configuration, shown once: as a code to scan, a file, a text. Lives in this component alone. */

import { useQuery } from '@tanstack/react-query';
import { CircleCheck, Download, LoaderCircle } from 'lucide-react';
import { useRef, useState } from 'react';
import { peerQuery } from '../api/queries';
import { t } from '../i18n';
import { presenceOf } from '../lib/activity';
import { useServerNow } from '../lib/clock';
import { configFileName, hasPrivateKey } from '../lib/config';
import { saveFile } from '../lib/copy';
import { Button } from './Button';
import { CopyButton } from './CopyButton';
import { Disclosure } from './Disclosure';
import { QrCode } from './QrCode';

const WAITING_MILLIS = 2000;

export interface ReadyDevice {
  name: string;
  /** The wg-quick text, with the private key unless the device keeps it. */
  config: string;
}

export function DeviceReady({ device, onDone }: { device: ReadyDevice; onDone: () => void }) {
  const text = useRef<HTMLTextAreaElement>(null);
  const [open, setOpen] = useState(false);
  const complete = hasPrivateKey(device.config);
  return (
    <div className="flex flex-col gap-5">
      {complete ? <Scan device={device} /> : <NoKey />}
      <div className="grid gap-2 sm:grid-cols-2">
        <Button onClick={() => saveFile(configFileName(device.name), device.config)}>
          <Download aria-hidden className="size-4" />
          {t.ready.download}
        </Button>
        <CopyButton text={device.config} label={t.ready.copy} fallback={text} onFallback={() => setOpen(true)} />
      </div>
      <Disclosure summary={t.ready.text} open={open || !complete} onToggle={setOpen}>
        <textarea
          ref={text}
          readOnly
          aria-label={t.ready.configuration}
          value={device.config}
          rows={12}
          spellCheck={false}
          className="w-full resize-none rounded-xl border border-line bg-hover p-3 font-mono text-ink text-xs focus-visible:outline-2 focus-visible:outline-accent"
        />
      </Disclosure>
      {complete && <p className="text-muted text-sm">{t.ready.once}</p>}
      <Button kind="primary" className="w-full" onClick={onDone}>
        {t.app.done}
      </Button>
    </div>
  );
}

function Scan({ device }: { device: ReadyDevice }) {
  return (
    <>
      <div className="grid items-center gap-5 sm:grid-cols-[auto_1fr]">
        <div className="sm:w-64">
          <QrCode text={device.config} label={t.ready.alt(device.name)} />
        </div>
        <div>
          <p className="font-semibold">{t.ready.scan}</p>
          <ol className="mt-2 list-decimal space-y-1 ps-5 text-muted text-sm">
            {t.ready.scanSteps.map((step) => (
              <li key={step}>{step}</li>
            ))}
          </ol>
        </div>
      </div>
      <FirstHandshake name={device.name} />
    </>
  );
}

function NoKey() {
  return (
    <div>
      <p className="font-semibold">{t.ready.noKey}</p>
      <p className="mt-1 text-muted text-sm">{t.ready.noKeyText}</p>
    </div>
  );
}

/** Turns green by itself with the device's first handshake after this was shown. */
function FirstHandshake({ name }: { name: string }) {
  const now = useServerNow();
  const [since] = useState(() => now);
  // Whoever waits for it looks at this, so the one device is asked for itself, and the list is left alone.
  const peer = useQuery({ ...peerQuery(name), refetchInterval: WAITING_MILLIS });
  const presence = peer.data && presenceOf(peer.data, now);
  // Two seconds for the clocks; a handshake made with an earlier key does not count.
  const fresh = presence?.state === 'connected' && presence.ageSeconds * 1000 < now - since + 2000;
  return (
    <div
      role="status"
      className={`flex items-center justify-center gap-2 rounded-xl p-3 font-medium text-sm ${fresh ? 'bg-good-soft text-good' : 'bg-hover text-muted'}`}
    >
      {fresh ? (
        <CircleCheck aria-hidden className="size-5" />
      ) : (
        <LoaderCircle aria-hidden className="size-5 animate-spin motion-reduce:animate-none" />
      )}
      {fresh ? t.ready.connected : t.ready.waiting}
    </div>
  );
}
