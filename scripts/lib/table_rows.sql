-- Each row of the table as a dump writes it between the parentheses of its INSERT: the same lines for the same rows.
-- Text byte by byte, because a dump escapes bytes too.
SELECT CONCAT(
    id, ',',
    IFNULL(CONCAT('''',
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(
            CAST(message AS BINARY),
            '\\', '\\\\'), '''', '\\'''), '"', '\\"'), '\n', '\\n'), '\r', '\\r'), '\0', '\\0'), CHAR(26), '\\Z'),
        ''''), 'NULL'), ',',
    IFNULL(CONCAT('''', created_at, ''''), 'NULL'), ',',
    IFNULL(CONCAT('''', edited_at, ''''), 'NULL'), ',',
    IFNULL(CONCAT('0x', HEX(submit_key)), 'NULL'))
FROM messages ORDER BY id;
