// How a script here finds the SDKs, and how it says what it has checked.
import { createRequire } from 'node:module';
import { join } from 'node:path';

// sdk is the `require` of one of the folders that .ci/sdk makes.
export const sdk = (folder) => createRequire(join(process.env.SDKS, folder, 'here.js'));

// check runs one check and prints its line, "ok NAME" or "not ok NAME: why". It fails
// when body throws or has not ended in time; the script goes on with the next one.
export async function check(name, body, seconds = 20) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`still not done after ${seconds} s`)), seconds * 1000);
  });
  try {
    await Promise.race([body(), late]);
    console.log(`ok ${name}`);
  } catch (err) {
    process.exitCode = 1;
    console.log(`not ok ${name}: ${explain(err)}`);
  } finally {
    clearTimeout(timer);
  }
}

// A rejection that nobody awaits, because its check has failed before, stops nothing.
process.on('unhandledRejection', (err) => {
  process.exitCode = 1;
  console.log(`not ok unhandled_rejection: ${explain(err)}`);
});

// explain puts an error, with what the hub answered, on one line.
function explain(err) {
  const answer = err?.response ? ` (${err.response.statusCode} ${err.responseBody})` : '';
  const where = err?.stack?.split('\n').find((line) => line.includes('/testdata/'))?.trim() ?? '';
  return `${err?.name}: ${err?.message}${answer} ${where}`.replace(/\s*\n\s*/g, ' | ');
}

// done ends the script, whatever the SDKs still have open.
export const done = () => process.exit();

// until waits until probe returns something true, and returns that.
export async function until(probe) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const found = await probe();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('what was waited for has not come');
}

// fails awaits that promise is rejected with an error of the SDK's class name and, where
// given, that the hub answered with status.
export async function fails(promise, name, status) {
  let result;
  try {
    result = await promise;
  } catch (err) {
    const got = err.response?.statusCode;
    if (err.name === name && (status === undefined || got === status)) return err;
    throw err;
  }
  throw new Error(`want ${name}, got ${JSON.stringify(result?.responseBody ?? result)}`);
}
