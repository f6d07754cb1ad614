/** A fault of this page must not leave a white screen. */

import { Component, type ReactNode } from 'react';
import { t } from '../i18n';
import { Button } from './Button';
import { Plain } from './Plain';

export class Boundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <Plain title={t.app.crashed} text={t.app.crashedText}>
        <Button kind="primary" onClick={() => window.location.reload()}>
          {t.app.reload}
        </Button>
      </Plain>
    );
  }
}
