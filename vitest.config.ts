import { defineConfig } from 'vitest/config'

/**
 * End-to-end tests spawn gateways of their own, so files run two at a time however many cores there are.
 * The JSON report is what `scripts/test` counts from.
 */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ['default', 'json'],
    outputFile: { json: 'node_modules/.cache/sluice/vitest.json' },
  },
})
