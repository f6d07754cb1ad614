/** The words of services come with their pages, not with the first script. */

import { services } from './en-services';

export type ServiceWords = typeof services;

export const s: ServiceWords = services;
