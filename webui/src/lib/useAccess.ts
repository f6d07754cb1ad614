/** Who may use services, with switches that are on at once and sent in order. */

import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useRef, useState } from 'react';
import { data, sdk } from '../api/client';
import { type ApiError, asApiError } from '../api/error';
import { serviceQuery, servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { type Access, AccessWriter, accessOf, type Turn } from './access';

export interface AccessSwitches {
  shown: (service: Service) => Access;
  turn: (service: string, turn: Turn) => void;
  /** The last refusal, by service. */
  errors: Readonly<Record<string, ApiError>>;
}

export function useAccess(): AccessSwitches {
  const queries = useQueryClient();
  const writers = useRef(new Map<string, AccessWriter>());
  /** As the page has them: the writers begin with what a person saw. */
  const latest = useRef(new Map<string, Service>());
  const [, redraw] = useState(0);
  const [errors, setErrors] = useState<Record<string, ApiError>>({});

  const writerOf = useCallback(
    (name: string): AccessWriter => {
      const known = writers.current.get(name);
      if (known) return known;
      const store = (service: Service) => {
        latest.current.set(name, service);
        queries.setQueryData(serviceQuery(name).queryKey, service);
        queries.setQueryData(servicesQuery.queryKey, (all) =>
          all?.map((one) => (one.name === name ? { ...one, ...service } : one)),
        );
      };
      const read = () => {
        const one = latest.current.get(name);
        return one && accessOf(one);
      };
      const write = async ({ everyone, peers }: Access) => {
        const body = { everyone, allowed_peers: everyone ? [] : [...peers].sort() };
        store(await data(sdk.setServiceAccess({ path: { service: name }, body })));
      };
      const tell = (error: unknown) => {
        redraw((n) => n + 1);
        setErrors(({ [name]: _, ...rest }) => (error === undefined ? rest : { ...rest, [name]: asApiError(error) }));
      };
      const made = new AccessWriter(read, write, tell);
      writers.current.set(name, made);
      return made;
    },
    [queries],
  );

  const turn = useCallback((service: string, asked: Turn) => writerOf(service).turn(asked), [writerOf]);
  const shown = (service: Service) => {
    latest.current.set(service.name, service);
    return writers.current.get(service.name)?.shown() ?? accessOf(service);
  };
  return { shown, turn, errors };
}
