import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState, useSyncExternalStore } from 'react';
import { type LiveState, LiveStream } from '../api/live';

/** Opens the page's one event stream for as long as its caller is mounted; only administrators may have it. */
export function useLive(admin: boolean): LiveState {
  const queries = useQueryClient();
  const [stream] = useState(() => new LiveStream(queries));
  useEffect(() => (admin ? stream.start() : undefined), [stream, admin]);
  return useSyncExternalStore(stream.subscribe, stream.snapshot);
}
