#!/usr/bin/env node
// Prints `N passed, N failed` from the report of the test runner; exits 1 unless everything passed and the runner itself agreed.
// A file that could not be loaded, or an error outside any test, counts as one failure: it has no test of its own to fail.
import { readFileSync } from 'node:fs'

const [, , file, runnerStatus] = process.argv
const report = JSON.parse(readFileSync(file, 'utf8'))
const broken = report.testResults.filter(
  (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
)
for (const suite of broken) console.error(`${suite.name}: ${suite.message}`)
const passed = report.numPassedTests
let failed = report.numFailedTests + broken.length
if (failed === 0 && (runnerStatus !== '0' || passed === 0)) failed = 1
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
