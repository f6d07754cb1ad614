import '@testing-library/jest-dom/vitest';
import { cleanup, configure } from '@testing-library/react';
import { setupServer } from 'msw/node';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { get, NOTHING_WAITS } from './cell';

// A second is not enough on a machine that is busy with something else.
configure({ asyncUtilTimeout: 8000 });

// jsdom knows <dialog> but not how to open it.
HTMLDialogElement.prototype.showModal = function showModal() {
  this.open = true;
};
HTMLDialogElement.prototype.close = function close() {
  this.open = false;
};
window.scrollTo = () => undefined;

/** The cell, as each test describes it; a request that no test described fails the test. Every page asks these. */
export const server = setupServer(
  get('/api/network/pending', NOTHING_WAITS),
  get('/api/services/active', { services: [] }),
  get('/api/alerts', { alerts: [] }),
  get('/api/services', { services: [] }),
);
beforeAll(() => server.listen({ onUnhandledRequest: 'error' }));
afterEach(() => {
  cleanup();
  server.resetHandlers();
  window.history.replaceState(null, '', '/');
});
afterAll(() => server.close());
