export interface Contestant {
  /** The rival whose process it is measured on; absent = the one of its own name. */
  readonly of?: string
}

export interface Job {
  readonly title: string
  readonly folder: string
  /** Client connections, in place of those of the run. */
  readonly connections?: number
  readonly contestants: { readonly [name: string]: Contestant }
}

export const jobs: { readonly [name: string]: Job }

export interface Goal {
  readonly job: string
  readonly of: string
  readonly to: string
  readonly least: number
}

export const goals: readonly Goal[]
