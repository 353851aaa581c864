// azure-iothub: everything that is asked of a hub without a device.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { check, done, fails, sdk } from './check.mjs';
import { call, client, host, policy, registry, registryAs } from './hub.mjs';

const { Registry, Twin } = sdk('service')('azure-iothub');
const key = () => randomBytes(32).toString('base64');
const isKey = (text) => assert.equal(Buffer.from(text, 'base64').length, 32, text);
const body = async (promise) => (await promise).responseBody;

// Devices.

await check('registry_create', async () => {
  const symmetricKey = { primaryKey: key(), secondaryKey: key() };
  const made = await registry.create({ deviceId: 'pi-1', status: 'enabled', authentication: { type: 'sas', symmetricKey } });
  assert.equal(made.httpResponse.statusCode, 200);
  const d = made.responseBody;
  assert.deepEqual(
    [d.deviceId, d.status, d.connectionState, d.authentication.type, d.authentication.symmetricKey],
    ['pi-1', 'enabled', 'Disconnected', 'sas', symmetricKey],
  );
  assert.match(d.etag, /^[^"]+$/);
  assert.equal(made.httpResponse.headers.etag, `"${d.etag}"`);
  assert.match(d.generationId, /^\d+$/);
});

await check('registry_create_without_auth', async () => {
  const { authentication } = await body(registry.create({ deviceId: 'pi-2' }));
  assert.equal(authentication.type, 'sas');
  isKey(authentication.symmetricKey.primaryKey);
  isKey(authentication.symmetricKey.secondaryKey);
});

await check('registry_create_x509', async () => {
  const primaryThumbprint = 'A1'.repeat(20);
  const secondaryThumbprint = 'b2'.repeat(32);
  const { authentication } = await body(registry.create({
    deviceId: 'pi-x', authentication: { x509Thumbprint: { primaryThumbprint, secondaryThumbprint } },
  }));
  assert.equal(authentication.type, 'selfSigned');
  assert.equal(authentication.x509Thumbprint.primaryThumbprint.toUpperCase(), primaryThumbprint);
  assert.equal(authentication.x509Thumbprint.secondaryThumbprint.toLowerCase(), secondaryThumbprint);
  const ca = await body(registry.create({ deviceId: 'pi-ca', authentication: { type: 'certificateAuthority' } }));
  assert.equal(ca.authentication.type, 'certificateAuthority');
});

await check('registry_create_any_id', async () => {
  const deviceId = "Az-09.+%_#*?!(),=@$':";
  await registry.create({ deviceId });
  assert.equal((await body(registry.get(deviceId))).deviceId, deviceId);
  assert.equal((await body(registry.getTwin(deviceId))).deviceId, deviceId);
  await registry.delete(deviceId);
});

await check('registry_create_bad_id', async () => {
  await fails(registry.create({ deviceId: 'no spaces' }), 'ArgumentError', 400);
  await fails(registry.create({ deviceId: 'x'.repeat(129) }), 'ArgumentError', 400);
});

await check('registry_create_existing', () => fails(registry.create({ deviceId: 'pi-1' }), 'DeviceAlreadyExistsError', 409));

await check('registry_get', async () => {
  const d = await body(registry.get('pi-1'));
  assert.deepEqual([d.deviceId, d.status, d.connectionState], ['pi-1', 'enabled', 'Disconnected']);
});

await check('registry_get_unknown', () => fails(registry.get('pi-9'), 'DeviceNotFoundError', 404));

await check('registry_update', async () => {
  const before = await body(registry.get('pi-2'));
  const after = await body(registry.update({ ...before, status: 'disabled', statusReason: 'in the shop' }));
  assert.deepEqual([after.status, after.statusReason], ['disabled', 'in the shop']);
  assert.notEqual(after.etag, before.etag);
  assert.equal(after.generationId, before.generationId);
  assert.deepEqual(after.authentication.symmetricKey, before.authentication.symmetricKey);
});

await check('registry_update_unknown', () => fails(registry.update({ deviceId: 'pi-9' }), 'DeviceNotFoundError', 404));

// The SDK's update and delete send "*"; other etags go through its HTTP layer.
await check('registry_update_etag', async () => {
  const d = await body(registry.get('pi-1'));
  const put = (etag) => call(registry, 'PUT', '/devices/pi-1?api-version=2021-04-12',
    { 'Content-Type': 'application/json; charset=utf-8', 'If-Match': `"${etag}"` }, d);
  const { result } = await put(d.etag);
  assert.notEqual(result.etag, d.etag);
  await fails(put(d.etag), 'InvalidEtagError', 412);
});

await check('registry_list', async () => {
  const list = await body(registry.list());
  assert.deepEqual(list.map((d) => d.deviceId).sort(), ['pi-1', 'pi-2', 'pi-ca', 'pi-x']);
});

await check('registry_delete', async () => {
  const gone = await registry.delete('pi-x');
  assert.equal(gone.httpResponse.statusCode, 204);
  await fails(registry.get('pi-x'), 'DeviceNotFoundError', 404);
  await fails(registry.delete('pi-x'), 'DeviceNotFoundError', 404);
});

// Many at once.

const many = ['bulk-1', 'bulk-2', 'bulk-3', 'bulk-4', 'bulk-5'].map((deviceId) => ({ deviceId }));

await check('bulk_add', async () => {
  const result = await body(registry.addDevices(many));
  assert.deepEqual([result.isSuccessful, result.errors], [true, []]);
  isKey((await body(registry.get('bulk-5'))).authentication.symmetricKey.primaryKey);
});

// outcome is the result of a bulk operation that has failed for some. It comes with 400,
// which the SDK makes an error of.
const outcome = async (promise) => JSON.parse((await fails(promise, 'ArgumentError', 400)).responseBody);

await check('bulk_add_existing', async () => {
  const { isSuccessful, errors } = await outcome(registry.addDevices([{ deviceId: 'bulk-1' }, { deviceId: 'bulk-6' }]));
  assert.equal(isSuccessful, false);
  assert.deepEqual(errors.map((e) => e.deviceId), ['bulk-1']);
  await registry.delete('bulk-6'); // the others are done all the same
});

await check('bulk_update', async () => {
  const changed = await Promise.all(many.slice(0, 2).map(async ({ deviceId }) => ({ ...(await body(registry.get(deviceId))), status: 'disabled' })));
  const result = await body(registry.updateDevices(changed, true));
  assert.equal(result.isSuccessful, true);
  assert.equal((await body(registry.get('bulk-2'))).status, 'disabled');
  const stale = await outcome(registry.updateDevices([changed[0]], false)); // by etag
  assert.equal(stale.isSuccessful, false);
});

await check('statistics', async () => {
  const s = await body(registry.getRegistryStatistics());
  assert.deepEqual([s.totalDeviceCount, s.enabledDeviceCount, s.disabledDeviceCount], [8, 5, 3]);
});

// Queries.

// pages runs a query to its end and returns the device IDs of each page.
async function pages(text, size) {
  const query = registry.createQuery(text, size);
  const all = [];
  while (query.hasMoreResults) {
    const { result } = await query.nextAsTwin();
    assert.ok(result.every((t) => t instanceof Twin));
    all.push(result.map((t) => t.deviceId));
  }
  return all;
}

await check('query_pages', async () => {
  const got = await pages('SELECT * FROM devices', 3);
  assert.deepEqual(got.filter((p) => p.length > 0).map((p) => p.length), [3, 3, 2]);
  assert.equal(new Set(got.flat()).size, 8);
});

await check('query_where', async () => {
  const all = async (where) => (await pages(`SELECT * FROM devices WHERE ${where}`, 100)).flat().sort();
  assert.deepEqual(await all("status = 'disabled'"), ['bulk-1', 'bulk-2', 'pi-2']);
  assert.deepEqual(await all("deviceId = 'pi-1'"), ['pi-1']);
  assert.deepEqual(await all("status = 'disabled' AND deviceId = 'bulk-2'"), ['bulk-2']);
  assert.deepEqual(await all("connectionState = 'Connected'"), []);
});

await check('query_item', async () => {
  const { result, message } = await registry.createQuery("select * from devices where deviceId = 'pi-1'").next();
  assert.deepEqual([result.length, result[0].deviceId, result[0].connectionState], [1, 'pi-1', 'Disconnected']);
  assert.deepEqual(Object.keys(result[0].properties).sort(), ['desired', 'reported']);
  assert.equal(message.headers['x-ms-item-type'], 'Twin');
});

await check('query_bad', async () => {
  for (const text of ['SELECT', 'DROP TABLE devices', "SELECT * FROM devices WHERE tags.colour = 'red'", 'SELECT COUNT() FROM devices']) {
    await fails(registry.createQuery(text).next(), 'ArgumentError', 400);
  }
});

await check('bulk_remove', async () => {
  const result = await body(registry.removeDevices(many, true));
  assert.equal(result.isSuccessful, true);
  await fails(registry.get('bulk-1'), 'DeviceNotFoundError', 404);
});

// Modules.

await check('module_add', async () => {
  const m = await body(registry.addModule({ deviceId: 'pi-1', moduleId: 'proxy', managedBy: 'tests' }));
  assert.deepEqual([m.deviceId, m.moduleId, m.managedBy, m.connectionState], ['pi-1', 'proxy', 'tests', 'Disconnected']);
  isKey(m.authentication.symmetricKey.primaryKey);
});

await check('module_add_existing', () => fails(registry.addModule({ deviceId: 'pi-1', moduleId: 'proxy' }), 'DeviceAlreadyExistsError', 409));

await check('module_add_unknown_device', () => fails(registry.addModule({ deviceId: 'pi-9', moduleId: 'm' }), 'DeviceNotFoundError', 404));

await check('module_get', async () => {
  assert.equal((await body(registry.getModule('pi-1', 'proxy'))).moduleId, 'proxy');
  const err = await fails(registry.getModule('pi-1', 'none'), 'Error', 404); // the SDK has no class for it
  assert.equal(err.response.headers['iothub-errorcode'], 'ModuleNotFound');
});

await check('module_list', async () => {
  await registry.addModule({ deviceId: 'pi-1', moduleId: 'second' });
  const list = await body(registry.getModulesOnDevice('pi-1'));
  assert.deepEqual(list.map((m) => m.moduleId).sort(), ['proxy', 'second']);
  assert.deepEqual(await body(registry.getModulesOnDevice('pi-2')), []);
});

await check('module_update', async () => {
  const m = await body(registry.getModule('pi-1', 'proxy'));
  const primaryKey = key();
  const changed = { ...m, authentication: { type: 'sas', symmetricKey: { primaryKey, secondaryKey: key() } } };
  const after = await body(registry.updateModule(changed, false));
  assert.equal(after.authentication.symmetricKey.primaryKey, primaryKey);
  await fails(registry.updateModule(changed, false), 'InvalidEtagError', 412);
  await registry.updateModule(changed, true);
});

// Twins.

await check('twin_get', async () => {
  const t = await body(registry.getTwin('pi-1'));
  assert.deepEqual([t.deviceId, t.properties.desired.$version, t.properties.reported.$version], ['pi-1', 1, 1]);
  assert.ok(t.etag);
  await fails(registry.getTwin('pi-9'), 'DeviceNotFoundError', 404);
});

await check('twin_update', async () => {
  const twin = await body(registry.getTwin('pi-1'));
  const stale = twin.etag;
  await twin.update({ properties: { desired: { interval: 5, led: { colour: 'red', on: true } } } });
  assert.deepEqual([twin.properties.desired.interval, twin.properties.desired.led, twin.properties.desired.$version], [5, { colour: 'red', on: true }, 2]);
  await twin.update({ properties: { desired: { interval: null, led: { on: false } } } });
  const now = await body(registry.getTwin('pi-1'));
  assert.equal('interval' in now.properties.desired, false);
  assert.deepEqual([now.properties.desired.led, now.properties.desired.$version], [{ colour: 'red', on: false }, 3]);
  await fails(registry.updateTwin('pi-1', { properties: { desired: { a: 1 } } }, stale, undefined), 'InvalidEtagError', 412);
  await registry.updateTwin('pi-1', { properties: { desired: { a: 1 } } }, '*', undefined);
});

await check('module_twin', async () => {
  const twin = await body(registry.getModuleTwin('pi-1', 'proxy'));
  assert.deepEqual([twin.deviceId, twin.moduleId], ['pi-1', 'proxy']);
  await twin.update({ properties: { desired: { level: 3 } } });
  assert.equal((await body(registry.getModuleTwin('pi-1', 'proxy'))).properties.desired.level, 3);
  assert.equal('level' in (await body(registry.getTwin('pi-1'))).properties.desired, false);
});

await check('module_remove', async () => {
  await registry.removeModule('pi-1', 'second');
  await fails(registry.getModule('pi-1', 'second'), 'Error', 404);
  const remove = promisify(registry.removeModule).bind(registry); // by etag it wants a callback
  await remove(await body(registry.getModule('pi-1', 'proxy')));
  assert.deepEqual(await body(registry.getModulesOnDevice('pi-1')), []);
});

// Direct methods without a device. The error of an absent one has no class in the SDK.

await check('method_offline', async () => {
  const err = await fails(client.invokeDeviceMethod('pi-1', { methodName: 'reboot' }), 'Error', 404);
  assert.equal(err.response.headers['iothub-errorcode'], 'DeviceNotOnline');
  assert.equal(JSON.parse(JSON.parse(err.responseBody).Message).errorCode, 404103);
});

await check('method_unknown_device', () => fails(client.invokeDeviceMethod('pi-9', { methodName: 'reboot' }), 'DeviceNotFoundError', 404));

await check('method_bad_name', () => fails(client.invokeDeviceMethod('pi-1', { methodName: 'no spaces' }), 'ArgumentError', 400));

// Rights.

await check('wrong_key', async () => {
  const wrong = policy('iothubowner').replace(/SharedAccessKey=[^;]*/, `SharedAccessKey=${key()}`);
  await fails(Registry.fromConnectionString(wrong).get('pi-1'), 'UnauthorizedError', 401);
});

await check('ready_token', async () => {
  const { SharedAccessSignature, ConnectionString } = sdk('service')('azure-iothub');
  const { SharedAccessKeyName: name, SharedAccessKey: secret } = ConnectionString.parse(policy('iothubowner'));
  const token = (expiry) => SharedAccessSignature.create(host, name, secret, expiry).toString();
  const now = Math.floor(Date.now() / 1000);
  assert.equal((await body(Registry.fromSharedAccessSignature(token(now + 60)).get('pi-1'))).deviceId, 'pi-1');
  await fails(Registry.fromSharedAccessSignature(token(now - 3600)).get('pi-1'), 'UnauthorizedError', 401);
});

await check('policy_service', async () => {
  const service = registryAs('service');
  await fails(service.create({ deviceId: 'pi-3' }), 'UnauthorizedError', 401);
  await fails(service.delete('pi-1'), 'UnauthorizedError', 401);
  assert.equal((await body(service.getTwin('pi-1'))).deviceId, 'pi-1');
});

await check('policy_registryRead', async () => {
  const reader = registryAs('registryRead');
  assert.equal((await body(reader.get('pi-1'))).deviceId, 'pi-1');
  await fails(reader.update({ deviceId: 'pi-1' }), 'UnauthorizedError', 401);
});

await check('policy_registryReadWrite', async () => {
  const writer = registryAs('registryReadWrite');
  await writer.create({ deviceId: 'pi-3' });
  await writer.delete('pi-3');
});

await check('policy_device', () => fails(registryAs('device').get('pi-1'), 'UnauthorizedError', 401));

done();
