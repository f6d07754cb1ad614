/** The words of the UI. A further language is a further file of the type `Catalogue`: a missing word does not compile. */

import { en } from './en';

export type Catalogue = typeof en;

/** The catalogue in use. English is the only one of this version. */
export const t: Catalogue = en;
