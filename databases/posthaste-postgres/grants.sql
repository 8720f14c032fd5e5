-- What each role needs, and nothing else. {writer} and the others stand for the names of roles;
-- the owner of the schema, who runs the migrations, needs no grant.

-- States messages.
GRANT USAGE ON SCHEMA posthaste TO {writer};
GRANT INSERT (id, stated_at, due_at, topic, kind, key, content_type, headers, payload,
    payload_bytes) ON posthaste.outbox TO {writer};
GRANT EXECUTE ON FUNCTION
    posthaste.publish(text, text, text, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, bytea, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, json, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, jsonb, text, jsonb, timestamptz, text, uuid),
    posthaste.new_id(), posthaste.headers_hold(jsonb), posthaste.headers_fault(jsonb) TO {writer};

-- Handles messages with an inbox, and states further ones. Consumers of one schema trust each
-- other: this role may act in the name of every consumer. Dead letters of relays it cannot see.
GRANT USAGE ON SCHEMA posthaste TO {consumer};
GRANT INSERT (id, stated_at, due_at, topic, kind, key, content_type, headers, payload,
    payload_bytes) ON posthaste.outbox TO {consumer};
GRANT EXECUTE ON FUNCTION
    posthaste.publish(text, text, text, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, bytea, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, json, text, jsonb, timestamptz, text, uuid),
    posthaste.publish(text, text, jsonb, text, jsonb, timestamptz, text, uuid),
    posthaste.new_id(), posthaste.headers_hold(jsonb), posthaste.headers_fault(jsonb),
    posthaste.longer_history, posthaste.bury, posthaste.reposted, posthaste.take_reposted
    TO {consumer};
GRANT SELECT ON posthaste.schema_version TO {consumer};
GRANT SELECT, INSERT, DELETE, UPDATE (outcome) ON posthaste.inbox TO {consumer};
GRANT SELECT, INSERT, UPDATE, DELETE ON posthaste.attempt TO {consumer};

-- Relays: reads the outbox, and writes down what became of it. Partitions are made and removed by
-- their owner only: make {relay} a member of the owner's role, or sent rows are deleted one by one
-- and new ones all go to the last partition.
GRANT USAGE ON SCHEMA posthaste TO {relay};
GRANT SELECT ON posthaste.schema_version, posthaste.setting, posthaste.cluster, posthaste.outbox,
    posthaste.checkpoint, posthaste.lanes, posthaste.held, posthaste.lease, posthaste.batch,
    posthaste.dead_letter TO {relay};
GRANT DELETE ON posthaste.outbox, posthaste.batch TO {relay};
GRANT INSERT ON posthaste.batch, posthaste.dead_letter TO {relay};
GRANT INSERT, UPDATE ON posthaste.lanes, posthaste.lease TO {relay};
GRANT INSERT, UPDATE, DELETE ON posthaste.checkpoint, posthaste.held TO {relay};
GRANT EXECUTE ON FUNCTION posthaste.lane_hash, posthaste.longer_history, posthaste.refuse_foreign,
    posthaste.refuse_isolation, posthaste.refuse_division, posthaste.server_life,
    posthaste.weight, posthaste.read_outbox, posthaste.read_held, posthaste.free_lines,
    posthaste.hold_back, posthaste.follow_route, posthaste.lock_lines, posthaste.settle,
    posthaste.file_verdicts TO {relay};
-- Locks the row against an adoption; there is nothing else that it could become.
GRANT UPDATE (one) ON posthaste.cluster TO {relay};

-- Looks at everything, and acts on dead letters, on record.
GRANT USAGE ON SCHEMA posthaste TO {operator};
GRANT SELECT ON ALL TABLES IN SCHEMA posthaste TO {operator};
GRANT INSERT ON posthaste.audit TO {operator};
GRANT UPDATE, DELETE ON posthaste.dead_letter TO {operator};
GRANT INSERT, UPDATE, DELETE ON posthaste.held TO {operator};
GRANT INSERT, UPDATE, DELETE ON posthaste.inbox TO {operator};
GRANT DELETE ON posthaste.attempt TO {operator};
GRANT INSERT, UPDATE ON posthaste.lanes TO {operator};
GRANT EXECUTE ON FUNCTION posthaste.act, posthaste.lane_hash, posthaste.refuse_foreign,
    posthaste.refuse_isolation, posthaste.lock_lines, posthaste.free_lines, posthaste.hold_back,
    posthaste.follow_route TO {operator};
