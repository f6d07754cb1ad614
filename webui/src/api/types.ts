/** The generated types under the names that pages use, and the shapes that the document leaves open. */

export type {
  Account,
  AccountCredential,
  ActiveService,
  Alert,
  AuditPage,
  AuditRecord,
  AuditVerdict,
  CatalogService,
  ChangePlan,
  Config,
  Connection,
  ConnectionImport,
  ConnectionStatus,
  Docker,
  Domain,
  FormField,
  Me,
  NetworkStep,
  Peer,
  PeerAccess,
  PeerCreate,
  PeerCreated,
  PeerUpdate,
  RemoteCatalog,
  Service,
  ServiceAccess,
  ServiceCheck,
  ServiceContainer,
  ServiceNetwork,
  ServiceSecret,
  SetupStatus,
  Status,
  StoreAccess,
  User,
  Violation,
  WaitingChange,
  WireguardStatus,
} from './gen';

/** Access with every field present, as the UI edits it. */
export interface Access {
  internet: boolean;
  peer_to_peer: boolean;
  services: { address: string; protocol: string; port: number }[];
}

/** What the server leaves out is denied. */
export function fullAccess(access: import('./gen').PeerAccess): Access {
  return {
    internet: access.internet ?? false,
    peer_to_peer: access.peer_to_peer ?? false,
    services: access.services ?? [],
  };
}
