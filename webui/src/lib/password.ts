/** A rough measure of a new password, for its owner's eye alone. Pure. */

export const MIN_CHARACTERS = 10;

export type Strength = 0 | 1 | 2 | 3 | 4;

/** 0: shorter than the cell takes. 1-4 by length and by how many different characters there are. */
export function passwordStrength(password: string): Strength {
  const characters = [...password];
  if (characters.length < MIN_CHARACTERS) return 0;
  const distinct = new Set(characters.map((c) => c.toLowerCase())).size;
  if (distinct < 5) return 1;
  const kinds = [/\p{Ll}/u, /\p{Lu}/u, /\p{N}/u, /[^\p{L}\p{N}]/u].filter((kind) => kind.test(password)).length;
  const score = Math.min(characters.length, distinct * 2) + (kinds - 1) * 2;
  if (score >= 20) return 4;
  if (score >= 15) return 3;
  return 2;
}
