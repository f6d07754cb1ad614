/** The name or address that devices connect to. */

import { useQuery } from '@tanstack/react-query';
import { configQuery } from '../api/queries';
import { t } from '../i18n';
import { Field } from './Field';

interface Props {
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
  required?: boolean;
  optional?: boolean;
}

/** With the port that the router must pass on, which only a cell that is set up can tell. */
export function EndpointField(props: Props) {
  const config = useQuery(configQuery);
  return <EndpointInput {...props} help={config.data && t.settings.endpointHelp(config.data.wireguard_port)} />;
}

export function EndpointInput({ onChange, ...props }: Props & { help: string | undefined }) {
  return (
    <Field
      {...props}
      label={t.settings.endpoint}
      onChange={(event) => onChange(event.target.value)}
      name="endpoint_host"
      autoComplete="off"
      autoCapitalize="off"
      inputMode="url"
      spellCheck={false}
      maxLength={253}
    />
  );
}

/** The name by which this browser reached the cell, when others could use it too. */
export function suggestedEndpoint(): string {
  return endpointFromHost(window.location.hostname);
}

export function endpointFromHost(host: string): string {
  const local =
    host === 'localhost' || host === '[::1]' || /^127\./.test(host) || /\.(cell|local|internal)$/.test(host);
  return local ? '' : host.replace(/^\[|\]$/g, '');
}
