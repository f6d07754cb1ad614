/** The browser's own modal dialog: it traps focus, closes on Escape and gives focus back to the opener. */

import { X } from 'lucide-react';
import { type ReactNode, useId, useLayoutEffect, useRef } from 'react';
import { t } from '../i18n';

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
}

/** Open for as long as it is mounted. */
export function Dialog({ title, onClose, children }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  // In the same step as its content: nobody finds a dialog in the page that is not open yet.
  useLayoutEffect(() => {
    const dialog = ref.current;
    const opener = document.activeElement;
    // Focuses what bears the attribute `autofocus`, which React's property of that name does not set.
    dialog?.showModal();
    return () => {
      dialog?.close();
      // A dialog that leaves the document in the same moment does not give focus back by itself.
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      className="m-auto max-h-[calc(100dvh-1rem)] w-[min(34rem,calc(100vw-1rem))] overflow-y-auto overscroll-contain rounded-2xl border border-line bg-raised p-0 text-ink shadow-dialog backdrop:bg-black/45"
    >
      <div className="sticky top-0 z-10 flex items-center justify-between gap-4 bg-raised px-5 pt-4 pb-3 sm:px-6">
        <h2 id={titleId} className="min-w-0 break-words font-semibold text-lg tracking-tight">
          {title}
        </h2>
        <button
          type="button"
          onClick={onClose}
          aria-label={t.app.close}
          className="-me-2 flex size-11 shrink-0 cursor-pointer items-center justify-center rounded-xl text-muted hover:bg-hover hover:text-ink focus-visible:outline-2 focus-visible:outline-accent md:size-10"
        >
          <X aria-hidden className="size-5" />
        </button>
      </div>
      <div className="px-5 pb-5 sm:px-6 sm:pb-6">{children}</div>
    </dialog>
  );
}
