create index on resident (kana, birth);
create index on resident (household);
create index on register_row (resident);
analyze;
