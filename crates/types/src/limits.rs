//! Every bound in one place, with its unit in the name and its source beside it.
//!
//! "Azure" names the public limits of Azure IoT Hub (data-plane notes section 12); "ours" is a bound of this design.

// Names. Azure.
pub const DEVICE_ID_CHARS_MAX: usize = 128;
pub const HUB_NAME_CHARS_MIN: usize = 3;
pub const HUB_NAME_CHARS_MAX: usize = 50;
pub const REGION_NAME_CHARS_MAX: usize = 64;
pub const RESOURCE_GROUP_NAME_CHARS_MAX: usize = 90;
pub const CONSUMER_GROUP_NAME_CHARS_MAX: usize = 50;
pub const MESSAGE_ID_CHARS_MAX: usize = 128;

// Telemetry. Azure.
pub const D2C_MESSAGE_BYTES_MAX: usize = 256 * 1024;
pub const RETENTION_DAYS_MIN: u8 = 1;
pub const RETENTION_DAYS_MAX: u8 = 7;
pub const PARTITIONS_MIN: u16 = 2;
pub const PARTITIONS_MAX: u16 = 32;
pub const PARTITIONS_DEFAULT: u16 = 4;
pub const CONSUMER_GROUPS_MAX: usize = 20;
/// Rules of one list of a hub's addresses.
pub const HUB_ADDRESS_RULES_MAX: usize = 100;
/// Hosts that a hub may talk to, by name.
pub const HUB_FQDNS_MAX: usize = 100;
/// Certificates of authorities per hub. Azure.
pub const HUB_CERTIFICATES_MAX: usize = 25;
/// Bytes of such a certificate, as DER.
pub const HUB_CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

// Cloud-to-device. Azure.
pub const C2D_MESSAGE_BYTES_MAX: usize = 64 * 1024;
pub const C2D_QUEUE_DEPTH_MAX: usize = 50;
pub const C2D_TTL_DEFAULT_MS: i64 = 3_600_000;
pub const C2D_TTL_MIN_MS: i64 = 60_000;
pub const C2D_TTL_MAX_MS: i64 = 48 * 3_600_000;
pub const C2D_LOCK_MS: i64 = 60_000;
/// Longest lock a device may ask for. Azure.
pub const C2D_LOCK_MS_MAX: i64 = 300_000;
/// Ids, content type, user id and application properties of one message: percent-encoded three-fold they fit an MQTT topic
/// (65,535 bytes). Ours.
pub const C2D_PROPERTIES_BYTES_MAX: usize = 16 * 1024;
pub const C2D_DELIVERY_COUNT_DEFAULT: u16 = 10;
pub const C2D_DELIVERY_COUNT_MAX: u16 = 100;
pub const FEEDBACK_TTL_DEFAULT_MS: i64 = 3_600_000;
pub const FEEDBACK_LOCK_DEFAULT_MS: i64 = 60_000;
pub const FEEDBACK_DELIVERY_COUNT_DEFAULT: u16 = 10;
/// Feedback records kept per partition; the oldest gives way. Ours.
pub const FEEDBACK_QUEUE_DEPTH_MAX: usize = 100_000;
/// Records handed out under one lock. Azure.
pub const FEEDBACK_BATCH_RECORDS_MAX: usize = 64;
/// Batches locked at the same time, per partition. Ours.
pub const FEEDBACK_BATCHES_LOCKED_MAX: usize = 64;

// Twins. Azure.
pub const TWIN_TAGS_BYTES_MAX: usize = 8 * 1024;
pub const TWIN_DESIRED_BYTES_MAX: usize = 32 * 1024;
pub const TWIN_REPORTED_BYTES_MAX: usize = 32 * 1024;
pub const TWIN_KEY_BYTES_MAX: usize = 1024;
pub const TWIN_STRING_BYTES_MAX: usize = 4 * 1024;
pub const TWIN_DEPTH_MAX: usize = 10;
/// JSON text of a section, as a multiple of its size limit: bounds what the size rule counts as nothing. Ours.
pub const TWIN_TEXT_FACTOR_MAX: usize = 8;
pub const TWIN_INTEGER_MIN: i64 = -4_503_599_627_370_496;
pub const TWIN_INTEGER_MAX: i64 = 4_503_599_627_370_495;

// Registry. Azure.
pub const DEVICES_PER_HUB_MAX: u64 = 1_000_000;
pub const BULK_DEVICES_MAX: usize = 100;
pub const LIST_PAGE_MAX: usize = 1000;
pub const KEY_BYTES_MIN: usize = 16;
pub const KEY_BYTES_MAX: usize = 64;
pub const KEY_BYTES_MADE: usize = 32;
pub const POLICIES_MAX: usize = 16;
pub const STATUS_REASON_CHARS_MAX: usize = 128;

// SAS. Azure ("about five minutes of clock skew").
pub const SAS_CLOCK_SKEW_S: i64 = 300;
pub const SAS_TOKEN_BYTES_MAX: usize = 4096;

// MQTT.
/// One packet: the largest message plus room for topic and header. Azure closes above 256 KiB of payload.
pub const MQTT_PACKET_BYTES_MAX: usize = 256 * 1024 + 64 * 1024;
/// CONNECT carries a token and a will, nothing larger. Ours.
pub const MQTT_CONNECT_BYTES_MAX: usize = 64 * 1024;
/// A topic, client id or user name. MQTT 3.1.1 section 1.5.3.
pub const MQTT_STRING_BYTES_MAX: usize = 65_535;
pub const MQTT_SUBSCRIPTIONS_MAX: usize = 16;
/// One topic filter; the longest documented one has 160 bytes. Ours.
pub const MQTT_FILTER_BYTES_MAX: usize = 512;
/// Keep-alive values above this are treated as this. Azure.
pub const MQTT_KEEP_ALIVE_S_MAX: u16 = 1177;
/// Time for TLS handshake plus CONNECT. Ours.
pub const CONNECT_TIMEOUT_MS: u64 = 30_000;
/// Time a client has to take what is written to it. Ours.
pub const MQTT_WRITE_TIMEOUT_MS: u64 = 30_000;
/// Time connections have to close when the gateway stops. Ours.
pub const MQTT_SHUTDOWN_MS: u64 = 5_000;
/// C2D messages in flight to one MQTT session. Ours.
pub const MQTT_C2D_IN_FLIGHT_MAX: usize = 16;
/// Desired-property notifications waiting for one slow session; the session is closed beyond. Ours.
pub const SESSION_NOTIFICATIONS_MAX: usize = 64;
/// Telemetry bytes one connection may have waiting for one commit. Ours.
pub const CONNECTION_IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// New device connections that one MQTT listener admits a second, and how many of them at once: the handshakes of a fleet that
/// lost its region must not starve those who are connected. Ours.
pub const RECONNECTS_PER_SECOND: u32 = 2_000;
pub const RECONNECT_BURST: u32 = 200;
/// How long a new connection waits for its admission before it is closed; devices come again with their own back-off. Ours.
pub const RECONNECT_WAIT_MS: u64 = 5_000;
/// Device connections that an isolated region closes a second. Ours.
pub const ISOLATED_CLOSES_PER_SECOND: u32 = 2_000;
/// How often a listener looks whether its region still serves devices. Ours.
pub const STANDING_LOOK_MS: u64 = 50;
/// What a client is told to wait before it asks an isolated region again. Ours.
pub const ISOLATED_RETRY_MS: u64 = 2_000;
/// How long a read of events waits for this region to learn of a forced failover that its primary knows already. Ours.
pub const DIVERGENCE_WAIT_MS: u64 = 3_000;
/// Connections one gateway process accepts. Ours.
pub const CONNECTIONS_MAX: usize = 200_000;

// HTTP. Ours where Azure is silent.
pub const HTTP_BODY_BYTES_MAX: usize = 1024 * 1024;
pub const HTTP_HEADER_BYTES_MAX: usize = 64 * 1024;
pub const HTTP_REQUEST_TIMEOUT_MS: u64 = 60_000;
/// Connections one HTTP listener accepts; newcomers wait in the kernel beyond.
pub const HTTP_CONNECTIONS_MAX: usize = 10_000;
/// Time for a TLS handshake, and for the head of a request, also on an idle connection.
pub const HTTP_HEADER_READ_MS: u64 = 30_000;
/// A client that takes no byte of its response for so long is cut off.
pub const HTTP_WRITE_STALL_MS: u64 = 30_000;
/// Time that requests in progress get at shutdown.
pub const HTTP_DRAIN_MS: u64 = 10_000;
/// Longest wait of one event read over HTTP: parking and the answer still fit into the request's time.
pub const HTTP_READ_WAIT_MS_MAX: u64 = 40_000;
/// Messages in one telemetry batch over HTTP.
pub const HTTP_BATCH_MESSAGES_MAX: usize = 500;
pub const JSON_DEPTH_MAX: usize = 64;

// The region's engine. Ours.
/// Commands waiting for the engine of a region; callers wait beyond.
pub const ENGINE_QUEUE_MAX: usize = 16_384;
/// Commands taken into one group commit.
pub const ENGINE_TURN_COMMANDS_MAX: usize = 4096;
/// Bytes of new log records in one group commit.
pub const ENGINE_TURN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Replies of a `sync` hub waiting for the partner, per partition.
pub const SYNC_WAITING_MAX: usize = 65_536;
/// A `sync` hub that may degrade goes on without its partner once an answer waited so long for it.
pub const SYNC_DEGRADE_MS: i64 = 2_000;
/// Devices counted one by one among the records that only a primary has, per partition; beyond, the count says so.
pub const TAIL_DEVICES_MAX: usize = 65_536;
/// Entries a returning region asks for at once.
pub const REWIND_KEYS_MAX: usize = 1024;
/// Keys a returning region remembers not to ask for again, per partition.
pub const REWIND_KEYS_SEEN_MAX: usize = 65_536;
/// Disk space kept free: below it the store refuses writes with a clear error.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

// Region links. Ours.
pub const LINK_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
pub const LINK_CALLS_IN_FLIGHT_MAX: usize = 65_536;
/// Bytes waiting to be written to one link, by class; a cast beyond is not sent, a call waits.
pub const LINK_QUEUE_CONTROL_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const LINK_QUEUE_CLIENT_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const LINK_QUEUE_BULK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of frames taken into one write; the last frame of each class may exceed it.
pub const LINK_BATCH_BYTES: usize = 128 * 1024;
/// The first frame of a link, read before the peer is known.
pub const LINK_HELLO_BYTES_MAX: usize = 2048;
/// Incoming links whose handshake has not ended; further ones wait in the listener's backlog.
pub const LINK_HANDSHAKES_MAX: usize = 256;
pub const LINK_HANDSHAKE_MS_MAX: u64 = 5_000;
pub const LINK_PING_MS: u64 = 500;
/// A link that brings no byte for this long is dead.
pub const LINK_SILENCE_MS_MAX: u64 = 3_000;
/// A link that takes no byte for this long is dead.
pub const LINK_STALL_MS_MAX: u64 = 10_000;
pub const LINK_RETRY_MS_MIN: u64 = 50;
pub const LINK_RETRY_MS_MAX: u64 = 1_000;
/// Refused connections remembered for the operator; the oldest gives way.
pub const LINK_REFUSALS_KEPT: usize = 32;
/// Late events in one command of a replay, and their bytes: more than one record of the log holds.
pub const LATE_EVENTS_MAX: usize = 100_000;
pub const LATE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Name of a salvaged segment.
pub const SALVAGE_ID_BYTES_MAX: usize = 128;
/// Unacknowledged replication bytes per partition before the primary stops shipping and reads from the log later.
pub const SHIP_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of log records in one replication page.
pub const SHIP_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of state in one page of a snapshot bootstrap.
pub const SNAPSHOT_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of salvaged records in one page that is shown or replayed.
pub const SALVAGE_PAGE_BYTES_MAX: usize = 256 * 1024;

// Failover. DESIGN section 6.
pub const FAILOVER_PAUSE_CEILING_MS: i64 = 5_000;
pub const FAILOVER_WARM_LAG_MS: i64 = 100;
/// Longest time a planned failover waits for lag to fall in its warm step.
pub const FAILOVER_WARM_MS_MAX: i64 = 60_000;
pub const FAILOVER_COOLDOWN_MS: i64 = 3_600_000;
pub const FAILOVERS_PER_DAY: u32 = 2;
pub const FAILOVER_DAY_MS: i64 = 24 * 3_600_000;
/// A region acknowledges only while it holds its lease: from before the renewal was asked for, on a monotonic clock.
pub const LEASE_MS: u64 = 5_000;
pub const LEASE_RENEW_MS: u64 = 500;
/// Two monotonic clocks may differ in rate by one part in so many: the wait for another's lease is longer by that part.
pub const LEASE_CLOCK_RATE_PARTS: u64 = 50;
/// An isolated region closes its device connections so long after its lease lapsed.
pub const LEASE_GRACE_MS: u64 = 2_000;
/// Smallest and largest bound on a hub's lag.
pub const LAG_MAX_MS_MIN: u32 = 100;
pub const LAG_MAX_MS_MAX: u32 = 3_600_000;
/// Forced failovers whose point of divergence a hub remembers, for consumers that read past it.
pub const DIVERGENCES_KEPT_MAX: usize = 16;
/// Drills kept of a hub, with their reports; as many of hubs that are gone.
pub const DRILLS_KEPT_PER_HUB_MAX: usize = 50;
/// The ids of a drill's legs are made from its own.
pub const DRILL_ID_CHARS_MAX: usize = OPERATION_ID_CHARS_MAX - 8;
/// Longest time a drill stays in the other region.
pub const DRILL_HOLD_MS_MAX: i64 = 24 * 3_600_000;
pub const DRILL_HOLD_MS_DEFAULT: i64 = 30_000;
/// Samples taken during one drill, and rows of them kept in its report.
pub const DRILL_SAMPLES_MAX: usize = 2_000;
pub const DRILL_SAMPLES_KEPT_MAX: usize = 400;
/// Hubs of one plan, plans that are kept, and failovers of a plan that run at the same time.
pub const PLAN_HUBS_MAX: usize = 1_000;
pub const PLANS_KEPT_MAX: usize = 100;
pub const PLAN_PARALLEL_MAX: u16 = 100;
pub const PLAN_PARALLEL_DEFAULT: u16 = 10;
/// The ids of a plan's failovers are made from its own.
pub const PLAN_ID_CHARS_MAX: usize = OPERATION_ID_CHARS_MAX - 16;
/// Longest time a gateway holds a request while a hub changes its primary.
pub const PARK_MS_MAX: u64 = 15_000;
pub const PARKED_REQUESTS_MAX: usize = 100_000;

// Control plane. Ours.
pub const VOTERS_MAX: usize = 5;
/// One command of the control plane; commands travel in groups of at most [`CONSENSUS_ENTRIES_MAX`] in one frame.
pub const CONSENSUS_COMMAND_BYTES_MAX: usize = 128 * 1024;
pub const CONSENSUS_ENTRIES_MAX: usize = 32;
pub const CONSENSUS_SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Writes waiting for their commit; callers wait beyond.
pub const CONSENSUS_WRITES_MAX: usize = 1024;
pub const CONSENSUS_WRITE_TIMEOUT_MS: u64 = 5_000;
pub const CONSENSUS_BARRIER_TIMEOUT_MS: u64 = 2_000;
pub const ACTIVITY_LOG_ENTRIES_MAX: usize = 10_000;
pub const OPERATIONS_KEPT_PER_HUB_MAX: usize = 200;
pub const HUBS_PER_SUBSCRIPTION_MAX: usize = 50;
pub const TAGS_MAX: usize = 50;
pub const TAG_NAME_CHARS_MAX: usize = 512;
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Operations kept of hubs and groups that are gone.
pub const OPERATIONS_KEPT_OF_DELETED_MAX: usize = 1_000;
pub const OPERATION_ID_CHARS_MAX: usize = 128;
/// Request ids the control plane remembers with their answers, to answer a retry without doing it twice.
pub const REMEMBERED_REQUESTS_MAX: usize = 4_096;
/// Bytes of those answers as JSON; the oldest give way.
pub const REMEMBERED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an owner wrote under `properties` and is only stored, as JSON.
pub const HUB_STORED_PROPERTIES_BYTES_MAX: usize = 64 * 1024;
/// Why a failover is started, as its operator says.
pub const FAILOVER_REASON_CHARS_MAX: usize = 512;
/// Characters of one field of an activity log entry.
pub const ACTIVITY_FIELD_CHARS_MAX: usize = 512;
pub const POLICY_NAME_CHARS_MAX: usize = 64;
pub const FREE_HUBS_PER_SUBSCRIPTION_MAX: usize = 1;
/// Feedback locks. Azure.
pub const FEEDBACK_LOCK_MIN_MS: i64 = 5_000;
pub const FEEDBACK_LOCK_MAX_MS: i64 = 300_000;
/// Longest time the check step waits for facts of both regions.
pub const FAILOVER_CHECK_MS_MAX: i64 = 15_000;

// The management API. Ours.
/// Wrong secrets of one client id within [`MANAGEMENT_WRONG_SECRETS_MS`]; further attempts wait.
pub const MANAGEMENT_WRONG_SECRETS_MAX: usize = 10;
pub const MANAGEMENT_WRONG_SECRETS_MS: i64 = 60_000;
/// Client ids whose wrong secrets are remembered; the oldest gives way.
pub const MANAGEMENT_WRONG_CLIENTS_MAX: usize = 1024;
pub const MANAGEMENT_TOKEN_S: i64 = 3600;
pub const MANAGEMENT_TOKEN_SKEW_S: i64 = 60;
pub const MANAGEMENT_TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A form that asks for a token; it is read before the asker is known.
pub const MANAGEMENT_FORM_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for a hub's live figures when a hub is read.
pub const MANAGEMENT_FIGURES_MS_MAX: u64 = 1_500;
/// Longest wait for a leader of the control plane before a forced check says that there is none: elections take less.
pub const MANAGEMENT_LEADER_MS_MAX: u64 = 6_000;
/// Longest wait for regions that are asked what they keep aside of a hub.
pub const MANAGEMENT_SALVAGE_MS_MAX: u64 = 10_000;
/// A request that is repeated under its own id within this time after its operation ended gets that operation again.
pub const MANAGEMENT_REPEAT_MS: i64 = 300_000;

/// Requests of one principal to one region's management API, per minute, unless the deployment sets others.
pub const MANAGEMENT_READS_PER_MINUTE: u32 = 1_200;
pub const MANAGEMENT_WRITES_PER_MINUTE: u32 = 300;
/// Requests of one address that show no good token, per minute.
pub const MANAGEMENT_OPEN_PER_MINUTE: u32 = 600;
/// Refusals of one principal that are written into the activity log, per minute.
pub const MANAGEMENT_REFUSALS_NOTED_PER_MINUTE: u32 = 30;
/// Principals and addresses whose requests are counted.
pub const MANAGEMENT_RATES_MAX: usize = 10_000;
/// Entries about refusals and key reads that are on their way to the activity log.
pub const MANAGEMENT_NOTES_AT_ONCE: usize = 64;
/// Longest time in which a request's body arrives.
pub const MANAGEMENT_BODY_MS_MAX: u64 = 10_000;
/// Nesting of a body's JSON, and parameters of a query.
pub const MANAGEMENT_JSON_DEPTH_MAX: usize = 64;
pub const MANAGEMENT_QUERY_MAX: usize = 64;

// Who may sign in, and who may do what. Ours.
pub const USERS_MAX: usize = 10_000;
pub const APPLICATIONS_MAX: usize = 1_000;
pub const SECRETS_PER_APPLICATION_MAX: usize = 10;
pub const CERTIFICATES_PER_APPLICATION_MAX: usize = 10;
/// A certificate of an application, as base64 of its DER.
pub const APPLICATION_CERTIFICATE_CHARS_MAX: usize = 16 * 1024;
/// Sign-ins of one user that can be renewed; the one not used for longest gives way.
pub const SESSIONS_PER_USER_MAX: usize = 20;
/// Groups that an external provider names for one person.
pub const GROUPS_PER_SESSION_MAX: usize = 200;
/// Authorization codes, and device codes, that wait to be redeemed.
pub const AUTHORIZATION_CODES_MAX: usize = 4_096;
pub const DEVICE_CODES_MAX: usize = 1_024;
pub const IDENTITY_PROVIDERS_MAX: usize = 16;
pub const IDENTITY_PROVIDER_CA_BYTES_MAX: usize = 32 * 1024;
/// Requests to external providers at the same time in one process, their longest time and their largest answer.
pub const PROVIDER_REQUESTS_AT_ONCE: usize = 8;
pub const PROVIDER_REQUEST_MS_MAX: u64 = 10_000;
pub const PROVIDER_ANSWER_BYTES_MAX: u64 = 256 * 1024;
pub const PROVIDER_ID_TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Client assertions remembered until they expire, and how long one may be good.
pub const ASSERTIONS_REMEMBERED_MAX: usize = 10_000;
pub const ASSERTION_S_MAX: i64 = 3_600;
pub const SIGNING_KEYS_MAX: usize = 8;
/// A new signing key signs only after this time: by then every region shows it.
pub const SIGNING_KEY_SETTLE_MS: i64 = 2 * 60_000;
pub const SIGNING_KEY_ROTATE_MS: i64 = 30 * 24 * 3_600_000;
/// Wrong passwords in a row that lock a user, and for how long.
pub const SIGN_IN_FAILURES_MAX: u32 = 5;
pub const SIGN_IN_LOCK_MS: i64 = 15 * 60_000;
/// How long an authorization code, a device code, and a form of the sign-in pages are good.
pub const AUTHORIZATION_CODE_MS: i64 = 5 * 60_000;
pub const DEVICE_CODE_MS: i64 = 15 * 60_000;
pub const SIGN_IN_FORM_MS: i64 = 15 * 60_000;
/// Seconds between two questions of a program that waits for a device code.
pub const DEVICE_CODE_INTERVAL_S: i64 = 5;
/// A session that is not renewed for so long ends.
pub const SESSION_MS: i64 = 14 * 24 * 3_600_000;
/// After its sign-in, a session of an external provider's person ends even when it is renewed.
pub const SESSION_EXTERNAL_MS_MAX: i64 = 12 * 3_600_000;
pub const PASSWORD_CHARS_MIN: usize = 12;
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Passwords hashed at the same time in one process, and how many wait for it.
pub const PASSWORD_HASHES_AT_ONCE: usize = 2;
pub const PASSWORD_HASHES_WAITING_MAX: usize = 64;
/// Names, ids and other short texts of the directory and of rights.
pub const DIRECTORY_ID_CHARS_MAX: usize = 128;
pub const DIRECTORY_TEXT_CHARS_MAX: usize = 256;
pub const DIRECTORY_ADDRESS_CHARS_MAX: usize = 2_048;
pub const ROLE_ASSIGNMENTS_MAX: usize = 4_000;
pub const LOCKS_MAX: usize = 1_000;
pub const LOCK_NAME_CHARS_MAX: usize = 260;
pub const LOCK_NOTES_CHARS_MAX: usize = 512;
/// Failovers that wait for a second person's word, and how long such a request and its approval are good.
pub const APPROVALS_MAX: usize = 1_000;
pub const APPROVAL_MS: i64 = 3_600_000;
/// Entries in one answer of the activity log.
pub const ACTIVITY_PAGE_MAX: usize = 200;

// Templates, jobs, routes. Ours where Azure is silent.
pub const TEMPLATES_KEPT_MAX: usize = 800;
pub const TEMPLATE_RESOURCES_MAX: usize = 100;
/// Parameters, or outputs, of a deployment that are kept, as JSON.
pub const TEMPLATE_VALUES_BYTES_MAX: usize = 32 * 1024;
/// Nesting of expressions, and characters of one value they may make.
pub const TEMPLATE_DEPTH_MAX: usize = 32;
/// Steps of evaluating one value of a template.
pub const TEMPLATE_STEPS_MAX: usize = 10_000;
pub const TEMPLATE_TEXT_BYTES_MAX: usize = 128 * 1024;
/// How often the driver of a deployment says that it lives, and after what silence it is given up.
pub const TEMPLATE_BEAT_MS: u64 = 10_000;
pub const TEMPLATE_SILENCE_MS: i64 = 60_000;
/// Longest time one resource of a deployment takes.
pub const TEMPLATE_RESOURCE_MS_MAX: u64 = 300_000;
pub const JOBS_KEPT_PER_HUB_MAX: usize = 50;
pub const JOB_BEAT_MS: u64 = 10_000;
pub const JOB_SILENCE_MS: i64 = 90_000;
/// Longest time of one request to a blob, and the largest blob.
pub const JOB_BLOB_TIMEOUT_MS: u64 = 300_000;
pub const JOB_BLOB_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Jobs that run on one node; further ones are refused.
pub const JOBS_AT_ONCE_MAX: usize = 4;
/// Routes and enrichments of a hub. Azure.
pub const ROUTES_MAX: usize = 100;
pub const ENRICHMENTS_MAX: usize = 10;
/// Key or value of an enrichment. Ours.
pub const ENRICHMENT_BYTES_MAX: usize = 1024;
pub const ROUTE_CONDITION_BYTES_MAX: usize = 8 * 1024;

// Events read by services.
pub const READ_EVENTS_MAX: usize = 1000;
pub const READ_BYTES_MAX: usize = 1024 * 1024;
pub const READ_WAIT_MS_MAX: u64 = 60_000;

const _: () = {
    assert!(D2C_MESSAGE_BYTES_MAX < MQTT_PACKET_BYTES_MAX);
    assert!(MQTT_PACKET_BYTES_MAX < CONNECTION_IN_FLIGHT_BYTES_MAX);
    assert!(ENGINE_TURN_BYTES_MAX + MQTT_PACKET_BYTES_MAX < LINK_FRAME_BYTES_MAX);
    assert!(SHIP_PAGE_BYTES_MAX <= SHIP_WINDOW_BYTES_MAX);
    // Base64 makes three bytes four; the rest of an entry is small.
    assert!(CONSENSUS_ENTRIES_MAX * CONSENSUS_COMMAND_BYTES_MAX * 2 < LINK_FRAME_BYTES_MAX);
    // A byte is up to four characters in a JSON array.
    assert!(CONSENSUS_SNAPSHOT_CHUNK_BYTES * 4 * 2 < LINK_FRAME_BYTES_MAX);
    assert!(LINK_FRAME_BYTES_MAX <= LINK_QUEUE_CONTROL_BYTES_MAX);
    assert!(LINK_QUEUE_CLIENT_BYTES_MAX < u32::MAX as usize);
    assert!(LINK_PING_MS * 2 < LINK_SILENCE_MS_MAX);
    assert!(FAILOVER_PAUSE_CEILING_MS < PARK_MS_MAX as i64);
    assert!(LEASE_RENEW_MS * 4 <= LEASE_MS);
    // Requests outlive a forced failover: they wait out the lease and find the new primary.
    assert!(LEASE_MS + LEASE_MS / LEASE_CLOCK_RATE_PARTS + 2_000 < PARK_MS_MAX);
    assert!(HTTP_READ_WAIT_MS_MAX + PARK_MS_MAX < HTTP_REQUEST_TIMEOUT_MS);
};
