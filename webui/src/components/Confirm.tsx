import type { ReactNode } from 'react';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';

interface Props {
  title: string;
  text: ReactNode;
  confirm: string;
  /** Throws `ApiError`; the dialog then stays and shows it. */
  act: () => Promise<void>;
  onClose: () => void;
}

/** Asks before what cannot be undone; the safe choice comes first and has the focus. */
export function Confirm({ title, text, confirm, act, onClose }: Props) {
  const action = useAction();
  const run = async () => {
    if (await action.run(act)) onClose();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <div className="flex flex-col gap-5">
        {typeof text === 'string' ? <p>{text}</p> : text}
        <ErrorNote error={action.error} />
        <div className="flex flex-wrap justify-end gap-2">
          <Button autoFocus onClick={onClose}>
            {t.app.cancel}
          </Button>
          <Button kind="danger" pending={action.pending} onClick={() => void run()}>
            {confirm}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
