// azure-iot-device with azure-iot-device-mqtt, as a device and, with a key, as a module
// of it: the SDK has no modules with certificates. Given in the environment: FOLDER, where
// .ci/sdk has put them; TRANSPORT, the class of azure-iot-device-mqtt; AUTH, sas,
// selfSigned or certificateAuthority; for certificates MINE and its THUMBPRINT, and OTHER,
// which the hub does not know: files that end in .pem and -key.pem.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { answerStreams, echo, respond } from './answer.mjs';
import { check, done, fails, sdk, until } from './check.mjs';
import { caFile, client as service, dial, echoes, host, policy, registry, startStream } from './hub.mjs';

const { FOLDER, TRANSPORT, AUTH, MINE, THUMBPRINT, OTHER } = process.env;
const require = sdk(FOLDER);
const { Client, ModuleClient, Message } = require('azure-iot-device');
const Transport = require('azure-iot-device-mqtt')[TRANSPORT];
const WebSocket = require('ws');

const withKeys = AUTH === 'sas';
const authentication = {
  sas: undefined, // the SDK asks for keys
  selfSigned: { type: AUTH, x509Thumbprint: { primaryThumbprint: THUMBPRINT } },
  certificateAuthority: { type: AUTH },
}[AUTH];
const ca = readFileSync(caFile, 'utf8');
const id = 'pi-1';

// later makes a promise of a call whose last argument is (err, result) => ...: the old
// SDK has no other calls.
const later = (object, method, ...args) => promisify(object[method]).call(object, ...args);

// identify says how a client proves to be who: by a key, or by a certificate's files.
const identify = (key, file) =>
  withKeys ? { proof: `SharedAccessKey=${key}` } : { proof: 'x509=true', cert: readFileSync(`${file}.pem`, 'utf8'), key: readFileSync(`${file}-key.pem`, 'utf8') };

// newClient is a client of the SDK that has not connected yet. Its connection string is
// of the hub's kind, with a part that the SDK does not know. Once something fails it does
// not try again, so that the failure is seen.
async function newClient(target, { proof, ...certificate }, options) {
  const [deviceId, moduleId] = target.split('/');
  const pin = policy('device').match(/CaFingerprint=[^;]+/)[0];
  const text = `HostName=${host};DeviceId=${deviceId};${moduleId ? `ModuleId=${moduleId};` : ''}${proof};${pin}`;
  const client = (moduleId ? ModuleClient : Client).fromConnectionString(text, Transport);
  client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => -1 });
  client.on('error', () => {});
  await later(client, 'setOptions', { ca, ...certificate, ...options });
  return client;
}

// The checks that a device and a module have in common.

async function ordinary(prefix, target, identification) {
  const [deviceId, moduleId] = target.split('/');
  const identity = async () => (await (moduleId ? registry.getModule(deviceId, moduleId) : registry.get(deviceId))).responseBody;
  const serviceTwin = async () => (await (moduleId ? registry.getModuleTwin(deviceId, moduleId) : registry.getTwin(deviceId))).responseBody;
  const invoke = async (params) =>
    (await (moduleId ? service.invokeDeviceMethod(deviceId, moduleId, params) : service.invokeDeviceMethod(deviceId, params))).result;
  const client = await newClient(target, identification);
  let twin;

  await check(`${prefix}connect`, async () => {
    await later(client, 'open');
    await until(async () => (await identity()).connectionState === 'Connected');
  });

  if (!moduleId) await check('query_connected', async () => {
    const { result } = await registry.createQuery("SELECT * FROM devices WHERE connectionState = 'Connected'").nextAsTwin();
    assert.deepEqual(result.map((t) => t.deviceId), [id]);
  });

  await check(`${prefix}telemetry`, async () => {
    const message = new Message(JSON.stringify({ temperature: 21.5 }));
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.messageId = 'm-1';
    message.properties.add('a b', 'c/d?e=f&g');
    await later(client, 'sendEvent', message); // QoS 1: returns when it is acknowledged
    await Promise.all(Array.from({ length: 100 }, (_, i) => later(client, 'sendEvent', new Message(`event ${i}`))));
    await later(client, 'sendEvent', new Message(randomBytes(200 * 1024)));
  });

  await check(`${prefix}twin_get`, async () => {
    await (await serviceTwin()).update({ properties: { desired: { interval: 5 } } });
    twin = await later(client, 'getTwin');
    assert.equal(twin.properties.desired.interval, 5);
    assert.ok(twin.properties.desired.$version > 1);
  });

  await check(`${prefix}twin_reported`, async () => {
    await later(twin.properties.reported, 'update', { firmware: '1.2', gone: 1 });
    await later(twin.properties.reported, 'update', { gone: null });
    const { reported } = (await serviceTwin()).properties;
    assert.deepEqual([reported.firmware, 'gone' in reported], ['1.2', false]);
  });

  await check(`${prefix}twin_desired`, async () => {
    const changes = [];
    twin.on('properties.desired', (delta) => changes.push(delta)); // at once, with what there is
    await later(client._transport, 'getTwin'); // its answer comes after the subscription's
    await (await serviceTwin()).update({ properties: { desired: { interval: 7 } } });
    const { $version } = await until(() => changes.find((delta) => delta.interval === 7));
    assert.equal($version, (await serviceTwin()).properties.desired.$version);
  });

  await check(`${prefix}method`, async () => {
    client[moduleId ? 'onMethod' : 'onDeviceMethod']('double', (request, response) => response.send(200 + request.payload.add, { twice: request.payload.n * 2 }, () => {}));
    const result = await until(() => invoke({ methodName: 'double', payload: { n: 21, add: 1 }, responseTimeoutInSeconds: 10 }).catch(offline));
    assert.deepEqual([result.status, result.payload], [201, { twice: 42 }]);
  });

  await check(`${prefix}method_timeout`, async () => {
    client[moduleId ? 'onMethod' : 'onDeviceMethod']('hang', () => {});
    const err = await fails(invoke({ methodName: 'hang', responseTimeoutInSeconds: 1 }), 'GatewayTimeoutError', 504);
    assert.equal(JSON.parse(JSON.parse(err.responseBody).Message).errorCode, 504101);
  });

  await check(`${prefix}messages_tolerated`, async () => {
    client.on(moduleId ? 'inputMessage' : 'message', () => {});
    await later(client, 'sendEvent', new Message('still here'));
  });

  await check(`${prefix}stream`, async () => {
    await answerStreams(client, (request) => {
      if (request.name === 'no') respond(client, request, 400);
      if (request.name === 'echo') echo(WebSocket, client, request);
    });
    const stream = await startStream(target, 'echo');
    assert.deepEqual([stream.status, stream.accepted], [200, true]);
    assert.match(stream.url, /^wss:\/\/[^/?]+:443\/[^?]+$/);
    await echoes(WebSocket, stream);
  });

  await check(`${prefix}streams_at_once`, async () => {
    const streams = await Promise.all([1, 2, 3].map(() => startStream(target, 'echo')));
    await Promise.all(streams.map((s) => echoes(WebSocket, s)));
  });

  await check(`${prefix}stream_rejected`, async () => {
    assert.deepEqual(await startStream(target, 'no'), { status: 200, accepted: false, url: undefined, token: undefined });
  });

  await check(`${prefix}stream_no_answer`, async () => {
    const err = await fails(startStream(target, 'silence', { answer: 1 }), 'GatewayTimeoutError', 504);
    assert.equal(err.response.headers['iothub-errorcode'], 'GatewayTimeout');
  });

  await check(`${prefix}takeover`, async () => {
    const evicted = once(client, 'disconnect');
    const second = await newClient(target, identification);
    await later(second, 'open');
    await evicted;
    await later(second, 'sendEvent', new Message('mine now'));
    await later(second, 'close');
    await until(async () => (await identity()).connectionState === 'Disconnected');
  });
}

// offline lets a caller try again: the SDK does not tell when it has subscribed.
function offline(err) {
  if (err.response?.headers['iothub-errorcode'] !== 'DeviceNotOnline') throw err;
}

// Checks of a device that is not connected.

async function refused(mine) {
  await check('refused', async () => {
    const client = await newClient(id, identify(randomBytes(32).toString('base64'), OTHER));
    await assert.rejects(later(client, 'open'), /Not authorized/);
    const stranger = await newClient('pi-9', mine);
    await assert.rejects(later(stranger, 'open'), /Not authorized/);
  });

  await check('stream_offline', async () => {
    const err = await fails(startStream(id, 'echo', { connect: 1 }), 'Error', 404);
    assert.equal(err.response.headers['iothub-errorcode'], 'DeviceNotOnline');
    await fails(startStream('pi-9', 'echo'), 'DeviceNotFoundError', 404);
  });

  await check('stream_waits_for_device', async () => {
    const asked = startStream(id, 'echo', { connect: 15 });
    const client = await newClient(id, mine);
    await later(client, 'open');
    await answerStreams(client, (request) => echo(WebSocket, client, request));
    await echoes(WebSocket, await asked);
    await later(client, 'close');
  });

  await check('disabled', async () => {
    await registry.update({ ...device, status: 'disabled' });
    await assert.rejects(later(await newClient(id, mine), 'open'), /Not authorized/);
    await fails(startStream(id, 'echo'), 'DeviceNotFoundError', 404);
  });
}

// renewed makes the SDK renew its token each second, which on MQTT is a new connection:
// a stream outlives that, and the next one comes without another SUBSCRIBE.
async function renewed(mine) {
  await check('token_renewal', async () => {
    const client = await newClient(id, mine, { tokenRenewal: { tokenValidTimeInSeconds: 2, tokenRenewalMarginInSeconds: 1 } });
    await later(client, 'open');
    await answerStreams(client, (request) => echo(WebSocket, client, request));
    const ws = dial(WebSocket, await startStream(id, 'echo'));
    await once(ws, 'open');
    for (let renewals = 0; renewals < 3; renewals++) {
      ws.send('still there?');
      assert.equal(String((await once(ws, 'message'))[0]), 'still there?');
      const before = client._transport._mqtt._mqttClient;
      await until(() => client._transport._mqtt._mqttClient !== before);
    }
    await echoes(WebSocket, await startStream(id, 'echo'));
    ws.close();
    await later(client, 'close');
  });
}

const device = (await registry.create({ deviceId: id, authentication })).responseBody;
const mine = identify(device.authentication.symmetricKey?.primaryKey, MINE);
await ordinary('', id, mine);
if (withKeys) {
  let module;
  await check('module_create', async () => {
    module = (await registry.addModule({ deviceId: id, moduleId: 'm-1' })).responseBody;
  });
  if (module) await ordinary('module_', `${id}/m-1`, identify(module.authentication.symmetricKey.secondaryKey));
  if (FOLDER === 'device') await renewed(mine);
}
await refused(mine);
done();
