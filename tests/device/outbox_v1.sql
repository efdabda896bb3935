-- What a store of version 1 held when its process was killed; frozen: later versions must open it.
INSERT INTO event (no, id, app, kind, at_ms, entry, deliveries) VALUES
    (1, 'evt_000001', '1001', 'client_event', 1700000000001, '["1001/channel/room-1","room-1","a",{"channel":"room-1"}]', '[1099511627777]'),
    (2, 'evt_000002', '1001', 'client_event', 1700000000002, '["1001/channel/room-1","room-1","a",{"channel":"room-1"}]', '[1099511627778]'),
    (3, 'evt_000003', '1001', 'client_event', 1700000000003, '["1001/channel/room-1","room-1","a",{"channel":"room-1"}]', '[1099511627779]');
INSERT INTO endpoint (key, sequence) VALUES ('1001/backend', 3);
INSERT INTO lane (id, endpoint, lane, depth, tail, cursor, pinned, attempts, first_at_ms, due_at_ms)
    VALUES (1, '1001/backend', 0, 2, 3, 1, 2, 4, 1700000100001, 1700000200000);
INSERT INTO delivery (key, event_id, kind, at_ms, envelope) VALUES
    (1099511627777, 'evt_000001', 'client_event', 1700000000001, CAST('{"id":"evt_000001"}' AS BLOB)),
    (1099511627778, 'evt_000002', 'client_event', 1700000000002, CAST('{"id":"evt_000002"}' AS BLOB)),
    (1099511627779, 'evt_000003', 'client_event', 1700000000003, CAST('{"id":"evt_000003"}' AS BLOB));
INSERT INTO span (app, kind, key, entry, departs_at_ms) VALUES
    ('1001', 'member', '["presence-a\nu\u0000"]', '["spn_1",1700000000000,{"n":1}]', 1700000003000);
INSERT INTO dead_request (no, endpoint, lane, settlement) VALUES
    (1, '1001/backend', 0, '["req_0",0,0,1,3,1700000000000,1700000000000,"dead",0,"gone",["answered",1.5,410,null,"\u00ff",""]]');
INSERT INTO dead_letter (no, request, endpoint, sequence, event_id, kind, at_ms, dead_at_ms, envelope)
    VALUES (1, 1, '1001/backend', 0, 'evt_000000', 'client_event', 1700000000000, 1700000000000, CAST('{"id":"evt_000000"}' AS BLOB));
