/** A backup of what a service keeps, to the browser's downloads. Asked first, so that a refusal is read here and not in a file. */

import { Download } from 'lucide-react';
import { sdk } from '../api/client';
import { s } from '../i18n/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';

export function ServiceBackup({ service }: { service: string }) {
  const action = useAction();
  const path = { service };
  const download = () =>
    action.run(async () => {
      await sdk.getServiceBackup({ path, query: { validate_only: true } });
      // The browser reads it to the disk; a page would hold it in memory. It stays here: the answer is an attachment.
      const link = document.createElement('a');
      link.href = `/api/services/${encodeURIComponent(service)}/backup`;
      link.download = '';
      link.click();
    });
  return (
    <div className="flex flex-col gap-3">
      <p className="text-muted text-sm">{s.backup.text}</p>
      <ErrorNote error={action.error} />
      <Button className="self-start" pending={action.pending} onClick={() => void download()}>
        <Download aria-hidden className="size-4" />
        {s.backup.download}
      </Button>
    </div>
  );
}
