-- What failed alike: the failure's code and its message without what differs from job to job (quoted texts, numbers).
create function buildlane_fingerprint(p_code text, p_message text) returns text language sql immutable as $$
  select left(md5(p_code || chr(10) || regexp_replace(regexp_replace(p_message, '"[^"]*"', '"', 'g'), '[0-9]+', '#', 'g')), 12)
$$;
