/** By name, in the order of the tables; `lacks` says what has to be installed for it, or null. */
export const rivals: { readonly [name: string]: { readonly lacks: () => string | null } }
