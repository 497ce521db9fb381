/** Sends a GET for each of `paths` in one write; the bodies in the order of their answers. */
export function fetchTogether(port: number, paths: readonly string[]): Promise<readonly string[]>
