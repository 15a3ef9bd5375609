// @azure/arm-iothub and @azure/arm-resources, unmodified: the same calls as sdk.py makes. `node sdk.cjs WAY CASE`.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const { ClientSecretCredential } = require('@azure/identity');
const { IotHubClient } = require('@azure/arm-iothub');
const { ResourceManagementClient } = require('@azure/arm-resources');

const up = JSON.parse(fs.readFileSync(process.env.UP_FILE, 'utf8'));
const base = up.management_url.replace(/\/$/, '');
const group = process.env.GROUP, hub = process.env.HUB, home = 'westus2';
const exchanged = [];

const record = {
  name: 'record',
  async sendRequest(request, next) {
    const answer = await next(request);
    exchanged.push({ method: request.method, url: request.url, status: answer.status, headers: answer.headers.toJSON() });
    return answer;
  },
};

function clients(way, secret = up.client_secret) {
  const adfs = way === 'adfs';
  const credential = new ClientSecretCredential(adfs ? 'adfs' : up.tenant, up.client_id, secret, { authorityHost: base, disableInstanceDiscovery: true });
  const options = { endpoint: base, ...(adfs ? { credentialScopes: [`${base}//.default`] } : {}) };
  const made = [new IotHubClient(credential, up.subscription, options), new ResourceManagementClient(credential, up.subscription, options)];
  for (const client of made) client.pipeline.addPolicy(record, { afterPhase: 'Retry' });
  return made;
}

async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

async function refused(work, status, code) {
  try {
    await work();
  } catch (error) {
    assert.strictEqual(error.statusCode, status, `${error.statusCode} ${error.code}: ${error.message}`);
    if (code) assert.strictEqual(error.code, code, error.message);
    return;
  }
  assert.fail(`not refused: ${work}`);
}

async function resources(resource) {
  const groups = resource.resourceGroups;
  assert((await all(resource.providers.list())).some((one) => one.namespace === 'Microsoft.Devices'));
  assert.strictEqual((await resource.providers.get('Microsoft.Devices')).registrationState, 'Registered');
  await resource.providers.register('Microsoft.Devices');
  assert.strictEqual((await groups.checkExistence(group)).body, false);
  await groups.createOrUpdate(group, { location: home, tags: { a: '1' } });
  assert.deepStrictEqual((await groups.update(group, { tags: { b: '2' } })).tags, { b: '2' });
  assert.strictEqual((await groups.get(group)).location, home);
  assert((await all(groups.list())).some((one) => one.name === group));
  await refused(() => groups.get('no-such-group'), 404, 'ResourceGroupNotFound');
}

async function hubs(iot, resource) {
  const of = iot.iotHubResource;
  const body = { location: home, sku: { name: 'S1', capacity: 1 } };
  assert.strictEqual((await of.checkNameAvailability({ name: hub })).nameAvailable, true);
  let made = await of.beginCreateOrUpdateAndWait(group, hub, body);
  assert.strictEqual(made.properties.state, 'Active');
  made.properties.cloudToDevice.maxDeliveryCount = 33;
  made = await of.beginCreateOrUpdateAndWait(group, hub, made, { ifMatch: made.etag });
  assert.strictEqual(made.properties.cloudToDevice.maxDeliveryCount, 33);
  await refused(() => of.beginCreateOrUpdateAndWait(group, hub, made, { ifMatch: 'AAAAAAAAAAA=' }), 412, 'PreconditionFailed');
  assert.deepStrictEqual((await of.beginUpdateAndWait(group, hub, { tags: { made: 'there' } })).tags, { made: 'there' });
  for (const pages of [of.listBySubscription(), of.listByResourceGroup(group), resource.resources.listByResourceGroup(group), resource.resources.list({ filter: `resourceGroup eq '${group}'` })]) {
    assert((await all(pages)).some((one) => one.name === hub));
  }
  const keys = await all(of.listKeys(group, hub));
  assert.strictEqual((await of.getKeysForKeyName(group, hub, 'service')).primaryKey, keys.find((one) => one.keyName === 'service').primaryKey);
  assert((await all(of.listValidSkus ? of.listValidSkus(group, hub) : of.getValidSkus(group, hub))).some((one) => one.sku.name === 'S2'));
  assert.strictEqual((await of.getStats(group, hub)).totalDeviceCount, 0);
  assert.strictEqual((await all(of.listQuotaMetrics ? of.listQuotaMetrics(group, hub) : of.getQuotaMetrics(group, hub))).length, 2);
  assert((await all(iot.operations.list())).length > 0);
  assert((await iot.resourceProviderCommon.getSubscriptionQuota()).value.length > 0);
  await refused(() => of.get(group, 'no-such-hub'), 404, 'ResourceNotFound');
}

async function groupsOfConsumers(iot) {
  const of = iot.iotHubResource;
  await of.createEventHubConsumerGroup(group, hub, 'events', 'cg1', { properties: { name: 'cg1' } });
  assert.strictEqual((await of.getEventHubConsumerGroup(group, hub, 'events', 'cg1')).name, 'cg1');
  assert.deepStrictEqual((await all(of.listEventHubConsumerGroups(group, hub, 'events'))).map((one) => one.name).sort(), ['$Default', 'cg1']);
  await of.deleteEventHubConsumerGroup(group, hub, 'events', 'cg1');
  await refused(() => of.getEventHubConsumerGroup(group, hub, 'events', 'cg1'), 404);
}

async function routing(iot) {
  const of = iot.iotHubResource;
  const message = { body: 'e30=', appProperties: { level: 'high' }, systemProperties: {} };
  await all(of.listEndpointHealth ? of.listEndpointHealth(group, hub) : of.getEndpointHealth(group, hub));
  await of.testAllRoutes(hub, group, { routingSource: 'DeviceMessages', message });
  const route = { name: 'r1', source: 'DeviceMessages', condition: "level = 'high'", endpointNames: ['events'], isEnabled: true };
  assert.strictEqual((await of.testRoute(hub, group, { message, route })).result, 'true');
  await all(of.listJobs(group, hub));
  await refused(() => of.getJob(group, hub, 'no-such-job'), 404);
  await refused(() => of.exportDevices(group, hub, { exportBlobContainerUri: 'nowhere', excludeKeys: true }), 400);
  await refused(() => of.importDevices(group, hub, { inputBlobContainerUri: 'nowhere', outputBlobContainerUri: 'nowhere' }), 400);
}

async function certificates(iot) {
  const of = iot.certificates;
  const pem = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS, 'utf8').split('-----END CERTIFICATE-----')[0] + '-----END CERTIFICATE-----\n';
  const certificate = Buffer.from(pem).toString('base64');
  assert.deepStrictEqual((await of.listByIotHub(group, hub)).value, []);
  const made = await of.createOrUpdate(group, hub, 'ca1', { properties: { certificate: Buffer.from(certificate).toString(), isVerified: false } });
  const coded = await of.generateVerificationCode(group, hub, 'ca1', made.etag);
  assert(coded.properties.verificationCode);
  await refused(() => of.verify(group, hub, 'ca1', coded.etag, { certificate }), 400);
  await of.delete(group, hub, 'ca1', (await of.get(group, hub, 'ca1')).etag);
  await refused(() => of.get(group, hub, 'ca1'), 404);
}

async function privateLinks(iot) {
  const links = iot.privateLinkResourcesOperations, of = iot.privateEndpointConnections;
  assert(Array.isArray((await links.list(group, hub)).value));
  await refused(() => links.get(group, hub, 'nothing'), 404);
  assert.strictEqual((await of.list(group, hub)).length, 0);
  await refused(() => of.get(group, hub, 'nothing'), 404);
  const state = { properties: { privateLinkServiceConnectionState: { status: 'Approved', description: 'yes' } } };
  await refused(() => of.beginUpdateAndWait(group, hub, 'nothing', state), 404);
  await of.beginDeleteAndWait(group, hub, 'nothing').catch((error) => assert.strictEqual(error.statusCode, 404));
}

async function failOver(iot) {
  const roles = async () => Object.fromEntries((await iot.iotHubResource.get(group, hub)).properties.locations.map((one) => [one.role, one.location]));
  const before = await roles();
  await refused(() => iot.iotHub.beginManualFailoverAndWait(hub, group, { failoverRegion: 'East US' }), 400, 'FailoverRegionMismatch');
  await iot.iotHub.beginManualFailoverAndWait(hub, group, { failoverRegion: before.secondary });
  assert.deepStrictEqual(await roles(), { primary: before.secondary, secondary: before.primary });
}

async function everything(way) {
  const [iot, resource] = clients(way);
  await assert.rejects(all(clients(way, 'wrong')[0].iotHubResource.listBySubscription()), /7000215/);
  await resources(resource);
  await hubs(iot, resource);
  await groupsOfConsumers(iot);
  await privateLinks(iot);
  await certificates(iot);
  await routing(iot);
  await failOver(iot);
  await iot.iotHubResource.beginDeleteAndWait(group, hub);
  await refused(() => iot.iotHubResource.get(group, hub), 404);
  await resource.resourceGroups.beginDeleteAndWait(group);
  assert.strictEqual((await resource.resourceGroups.checkExistence(group)).body, false);
}

const [way, what] = process.argv.slice(2);
(what === 'all' ? everything(way) : failOver(clients(way)[0]))
  .catch((error) => {
    console.error(error.stack);
    process.exitCode = 1;
  })
  .finally(() => console.log(JSON.stringify(exchanged)));
