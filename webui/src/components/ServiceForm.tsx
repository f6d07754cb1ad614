/** The fields that a manifest lets an administrator set, each as what it takes. */

import type { FormField } from '../api/types';
import { s } from '../i18n/services';
import { patternOf } from '../lib/services';
import { Field, Select, Switch } from './Field';

interface Props {
  form: readonly FormField[];
  values: Record<string, string>;
  onChange: (values: Record<string, string>) => void;
  /** Complaints by `parameters.NAME`. */
  errors: Record<string, string>;
}

export function ServiceForm({ form, values, onChange, errors }: Props) {
  return (
    <div className="flex flex-col gap-5">
      {form.map((field) => (
        <One
          key={field.name}
          field={field}
          value={values[field.name] ?? ''}
          onChange={(value) => onChange({ ...values, [field.name]: value })}
          error={errors[`parameters.${field.name}`]}
        />
      ))}
    </div>
  );
}

interface OneProps {
  field: FormField;
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
}

function One({ field, value, onChange, error }: OneProps) {
  const help = helpOf(field);
  switch (field.kind) {
    case 'boolean':
      return (
        <div>
          <Switch
            label={field.label}
            {...(help && { help })}
            checked={value === 'true'}
            onChange={(on) => onChange(on ? 'true' : 'false')}
          />
          {error && <p className="text-bad text-sm first-letter:uppercase">{error}</p>}
        </div>
      );
    case 'enum':
      return (
        <Select
          label={field.label}
          name={field.name}
          options={field.values.map((one) => [one, one] as const)}
          value={value}
          onChange={(event) => onChange(event.target.value)}
          help={help}
          error={error}
        />
      );
    default:
      return <Text field={field} value={value} onChange={onChange} error={error} help={help} />;
  }
}

function Text({ field, value, onChange, error, help }: OneProps & { help: string }) {
  const isNumber = field.kind === 'integer';
  const pattern = patternOf(field);
  return (
    <Field
      label={field.label}
      name={field.name}
      value={value}
      onChange={(event) => onChange(event.target.value)}
      help={help}
      error={error}
      required={field.default === null}
      autoCapitalize="off"
      autoComplete="off"
      spellCheck={false}
      {...(isNumber
        ? {
            type: 'number',
            step: 1,
            ...(field.min !== null && { min: field.min }),
            ...(field.max !== null && { max: field.max }),
          }
        : { ...(field.max_length !== null && { maxLength: field.max_length }) })}
      {...(pattern && { pattern, title: s.form.help[field.pattern ?? ''] })}
    />
  );
}

/** What it takes, and what it is when nothing is set. */
export function helpOf(field: FormField): string {
  const words: string[] = [];
  if (field.kind === 'integer' && field.min !== null && field.max !== null) {
    words.push(s.form.range(field.min, field.max));
  }
  if (field.kind === 'string') words.push(s.form.help[field.pattern ?? ''] ?? field.help);
  if (field.kind === 'string' && field.max_length !== null) words.push(s.form.atMost(field.max_length));
  if (field.default === null) words.push(field.kind === 'string' || field.kind === 'integer' ? s.form.required : '');
  else if (field.kind === 'boolean') words.push(s.form.default(field.default === 'true' ? s.form.on : s.form.off));
  else if (field.default !== '') words.push(s.form.default(field.default));
  return words.filter(Boolean).join(' ');
}
