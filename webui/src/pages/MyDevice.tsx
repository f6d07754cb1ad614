/** What somebody who does not run the cell sees: the device that bears their name. */

import { useQuery } from '@tanstack/react-query';
import { Smartphone } from 'lucide-react';
import { asApiError } from '../api/error';
import { myPeerQuery } from '../api/queries';
import { AccessSummary } from '../components/AccessSummary';
import { Card, Facts, PageHeader } from '../components/Card';
import { PasswordForm } from '../components/PasswordForm';
import { Presence } from '../components/Presence';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { presenceOf } from '../lib/activity';
import { useServerNow } from '../lib/clock';
import { useTitle } from '../lib/useTitle';

export default function MyDevice() {
  useTitle(t.mine.title);
  const peer = useQuery(myPeerQuery);
  const now = useServerNow();
  const none = peer.error !== null && asApiError(peer.error).status === 404;
  return (
    <>
      <PageHeader title={t.mine.title} />
      <div className="flex max-w-2xl flex-col gap-5">
        {none ? (
          <Empty icon={<Smartphone aria-hidden className="size-7" />} title={t.mine.none} text={t.mine.noneText} />
        ) : (
          <Loaded query={peer} rows={2}>
            {(mine) => (
              <Card title={mine.name}>
                <Facts
                  facts={[
                    [t.devices.state, <Presence key="state" presence={presenceOf(mine, now)} />],
                    [t.devices.access, <AccessSummary key="access" access={mine.access} />],
                    [
                      t.devices.address,
                      <span key="address" className="break-all font-mono text-sm">
                        {mine.ipv4}
                        <br />
                        {mine.ipv6}
                      </span>,
                    ],
                  ]}
                />
              </Card>
            )}
          </Loaded>
        )}
        <Card title={t.auth.change}>
          <div className="max-w-md">
            <PasswordForm />
          </div>
        </Card>
      </div>
    </>
  );
}
