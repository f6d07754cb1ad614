/** Every address of the UI, in one place. */

export const paths = {
  home: '/',
  devices: '/devices',
  device: (name: string) => `/devices/${encodeURIComponent(name)}`,
  exits: '/exits',
  services: '/services',
  service: (name: string) => `/services/${encodeURIComponent(name)}`,
  store: '/store',
  storeItem: (id: string) => `/store/${encodeURIComponent(id)}`,
  access: '/access',
  activity: '/activity',
  people: '/people',
  settings: '/settings',
  login: '/login',
  setup: '/setup',
  welcome: '/welcome',
} as const;
