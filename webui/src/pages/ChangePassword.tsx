import { useQueryClient } from '@tanstack/react-query';
import { sessionQuery } from '../api/queries';
import { PasswordForm } from '../components/PasswordForm';
import { Plain } from '../components/Plain';
import { t } from '../i18n';
import { useTitle } from '../lib/useTitle';

/** Asked of whoever has a password that somebody else chose. */
export default function ChangePassword() {
  useTitle(t.auth.changeTitle);
  const queries = useQueryClient();
  return (
    <Plain title={t.auth.changeTitle} text={t.auth.changeText}>
      <PasswordForm onChanged={() => queries.fetchQuery({ ...sessionQuery, staleTime: 0 })} />
    </Plain>
  );
}
