/** Everything a test starts, ended in reverse order: `const bed = new TestBed(); afterEach(() => bed.close())`. */
import { RawConnection, type RawConnectionOptions } from '../../src/doctor/raw-connection.js'
import { RecordingUpstream, type RecordingUpstreamOptions } from '../../src/doctor/recording-upstream.js'
import { Gateway, type GatewayOptions } from './gateway.js'

export class TestBed {
  private readonly closing: (() => unknown)[] = []

  /** Runs `close` at the end of the test. */
  later(close: () => unknown): void {
    this.closing.push(close)
  }

  async upstream(options: RecordingUpstreamOptions = {}): Promise<RecordingUpstream> {
    const upstream = await RecordingUpstream.start(options)
    this.later(() => upstream.close())
    return upstream
  }

  async gateway(options: GatewayOptions): Promise<Gateway> {
    const gateway = await Gateway.start(options)
    this.later(() => gateway.discard())
    return gateway
  }

  async client(options: RawConnectionOptions): Promise<RawConnection> {
    const client = await RawConnection.open(options)
    this.later(() => client.destroy())
    return client
  }

  async close(): Promise<void> {
    for (const close of this.closing.splice(0).reverse()) await close()
  }
}
