-- A database as an application has it, 2.5 GB at scale 100: :scale is a percentage. Deterministic but for the dates.
\set accounts (16500 * :scale)
\set documents (1500 * :scale)
\set events (52000 * :scale)

CREATE TABLE country (code text PRIMARY KEY, name text NOT NULL);
INSERT INTO country SELECT 'c' || g, 'country number ' || g FROM generate_series(1, 200) g;

CREATE TABLE setting (key text PRIMARY KEY, value jsonb NOT NULL);
INSERT INTO setting SELECT 'setting.' || g, jsonb_build_object('on', g % 2 = 0, 'n', g) FROM generate_series(1, 500) g;

CREATE TABLE tag (id int PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO tag SELECT g, 'tag-' || g FROM generate_series(1, 2000) g;

-- About 400 MB with its indexes.
CREATE TABLE account (id bigint NOT NULL, email text NOT NULL, name text NOT NULL, country text NOT NULL, created timestamptz NOT NULL, balance numeric(14,2) NOT NULL, preferences jsonb NOT NULL, active boolean NOT NULL);
INSERT INTO account
    SELECT g, 'user' || g || '@' || substr(md5((g % 997)::text), 1, 8) || '.example', initcap(substr(md5(g::text), 1, 7)) || ' ' || initcap(substr(md5((g * 7)::text), 1, 9)),
        'c' || 1 + g % 200, timestamptz '2020-01-01' + g * interval '97 s', (g * 7919 % 1000000) / 100.0,
        jsonb_build_object('theme', (ARRAY['dark', 'light'])[1 + g % 2], 'language', (ARRAY['de', 'en', 'fr', 'it'])[1 + g % 4], 'page', g % 100), g % 17 <> 0
    FROM generate_series(1::bigint, :accounts) g;
ALTER TABLE account ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON account (email);
CREATE INDEX ON account (created);

-- About 400 MB, mostly out of line: text that compresses a little, as prose does.
CREATE TABLE document (id bigint NOT NULL, account bigint NOT NULL, slug text NOT NULL, body text NOT NULL, changed timestamptz NOT NULL);
INSERT INTO document
    SELECT g, 1 + (g * 31) % :accounts, 'doc-' || md5(g::text),
        (SELECT string_agg(md5((g * 100 + i)::text) || ' the quick brown fox ', '') FROM generate_series(1, 40 + g % 60) i),
        timestamptz '2021-01-01' + g * interval '611 s'
    FROM generate_series(1::bigint, :documents) g;
ALTER TABLE document ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON document (slug);
ALTER TABLE document ADD FOREIGN KEY (account) REFERENCES account;

CREATE TABLE document_tag (document bigint NOT NULL, tag int NOT NULL);
INSERT INTO document_tag SELECT 1 + g % :documents, 1 + (g * 13) % 2000 FROM generate_series(1::bigint, :documents * 2) g;
CREATE INDEX ON document_tag (document, tag);

-- 1.4 GB with its indexes, 900 MB of it rows.
CREATE TABLE event (id bigint NOT NULL, account bigint NOT NULL, at timestamptz NOT NULL, kind text NOT NULL, amount numeric(12,2), payload jsonb NOT NULL, note text);
INSERT INTO event
    SELECT g, 1 + (g * 7919) % :accounts, timestamptz '2022-01-01' + g * interval '29 s', (ARRAY['login', 'order', 'payment', 'refund', 'shipment', 'support'])[1 + g % 6],
        (g * 104729 % 10000000) / 100.0, jsonb_build_object('ip', '10.' || g % 250 || '.' || g / 250 % 250 || '.7', 'agent', 'browser ' || g % 40, 'trace', md5(g::text)),
        CASE WHEN g % 3 = 0 THEN 'note ' || md5((g % 5000)::text) || ' on ' || g END
    FROM generate_series(1::bigint, :events) g;
ALTER TABLE event ADD PRIMARY KEY (id);
CREATE INDEX ON event (at);
CREATE INDEX ON event (account);
CREATE INDEX ON event (kind, amount);
ALTER TABLE event ADD FOREIGN KEY (account) REFERENCES account;

CREATE TABLE journal (id bigint PRIMARY KEY, at timestamptz NOT NULL, line text NOT NULL);
INSERT INTO journal SELECT g, timestamptz '2024-01-01' + g * interval '5 s', 'job ' || g % 37 || ' ended with ' || md5(g::text) FROM generate_series(1::bigint, :documents * 4) g;
