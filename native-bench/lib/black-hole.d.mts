export class BlackHole {
  readonly port: number
  static open(): Promise<BlackHole>
  close(): Promise<void>
}
