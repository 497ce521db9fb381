import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

/**
 * End-to-end tests spawn gateways of their own, so files run two at a time however many cores there are.
 * The JSON report is what `scripts/test` counts from.
 */
export default defineConfig({
  // What user plugins import: the sources here, `dist` (package.json, exports) in an installation.
  resolve: { alias: { 'sluice/plugin': fileURLToPath(new URL('src/plugins/plugin.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    maxWorkers: 2,
    // Longer than anything takes on one core that is busy with other things: deadlines end tests that hang, they decide nothing else.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
    reporters: ['default', 'json'],
    outputFile: { json: 'node_modules/.cache/sluice/vitest.json' },
  },
})
