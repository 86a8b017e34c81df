-- The resident ledger of a town. Numbers of seeded rows start at 1; rows that
-- clerks add take theirs from the ledger's own numbers, so that no sequence is
-- needed but the one that is printed on paper.
create table household (
    id      bigint primary key,
    address text not null,
    since   date not null
);
create table resident (
    id        bigint primary key,
    household bigint not null,
    name      text not null,
    kana      text not null,
    birth     date not null,
    sex       text not null
);
create table register_row (          -- every event, the history of a resident
    id       bigint primary key,
    resident bigint not null,
    kind     text not null,
    at       date not null,
    body     text not null
);
create table tax (
    year     int not null,
    resident bigint not null,
    amount   int not null,
    primary key (year, resident)
);
create sequence certificate_number;  -- printed on paper, must never repeat
create table certificate (
    number   bigint primary key default nextval('certificate_number'),
    resident bigint not null,
    kind     text not null
);
create table issue_log (
    number bigint primary key,
    clerk  text not null,
    at     timestamptz not null
);
create table ledger (                -- one row for every write of a clerk
    n     bigint primary key,
    clerk text not null,
    at    timestamptz not null,
    body  text not null
);
