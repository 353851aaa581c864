// The service's side of a hub, by azure-iothub.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sdk } from './check.mjs';

const { Registry, Client } = sdk('service')('azure-iothub');

export const host = process.env.HUB;
export const caFile = join(process.env.HUB_DATA, 'ca.pem');

// policy is the connection string of a built-in policy, as the hub has written it.
export const policy = (name) => readFileSync(join(process.env.HUB_DATA, 'connection-strings', name), 'utf8').trim();

export const registryAs = (name) => Registry.fromConnectionString(policy(name));
export const registry = registryAs('iothubowner');

// client opens streams and invokes methods. Failures are to be seen at once.
export const client = Client.fromConnectionString(policy('service'));
client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => -1 });

// path is the one of a twin; a target is DEVICE or DEVICE/MODULE.
function path(target) {
  const [device, module] = target.split('/').map(encodeURIComponent);
  return `/twins/${device}` + (module ? `/modules/${module}` : '');
}

// call sends any request through the SDK's own HTTP layer.
export const call = (api, method, path, headers, body) =>
  new Promise((resolve, reject) => {
    api._restApiClient.executeApiCall(method, path, headers, body, (err, result, response) =>
      err ? reject(err) : resolve({ result, response }));
  });

// startStream asks a device or module for a stream as azure-iothub 1.10.0-preview.0 did;
// no later release has the call. It reads the answer's headers as strictly as that did.
export async function startStream(target, name, { connect = 5, answer = 10 } = {}) {
  const { response } = await call(client, 'POST', `${path(target)}/streams/${name}?api-version=2018-10-20-preview`, {
    'iothub-streaming-connect-timeout-in-seconds': connect,
    'iothub-streaming-response-timeout-in-seconds': answer,
  });
  return {
    status: response.statusCode,
    accepted: response.headers['iothub-streaming-is-accepted'] === 'True',
    url: response.headers['iothub-streaming-url'],
    token: response.headers['iothub-streaming-auth-token'],
  };
}

// dial connects one leg of a stream with the WebSocket class of an SDK.
export const dial = (WebSocket, { url, token }) =>
  new WebSocket(url, { headers: { Authorization: `Bearer ${token}` }, perMessageDeflate: false });

// echoes sends size random bytes into a stream, in messages as long as the Node
// quickstart's, and checks that the same bytes come back.
export async function echoes(WebSocket, stream, size = 1 << 20) {
  const sent = randomBytes(size);
  const ws = dial(WebSocket, stream);
  const back = [];
  await new Promise((resolve, reject) => {
    let received = 0;
    ws.on('error', reject);
    ws.on('close', (code) => reject(new Error(`closed with ${code} after ${received} of ${size} bytes`)));
    ws.on('message', (data) => {
      back.push(data);
      received += data.length;
      if (received >= size) resolve();
    });
    ws.on('open', () => {
      for (let at = 0; at < size; at += 65536) ws.send(sent.subarray(at, at + 65536));
    });
  });
  ws.close(1000);
  const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(digest(Buffer.concat(back)), digest(sent));
}
