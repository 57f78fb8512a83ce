-- The one table of the board. Safe to run again and again: it only creates what is missing.
-- The service runs this same file when it finds no table, and brings an older table up to this shape by itself.

-- Clients that take another character set from their environment would store this text, and yours, doubly encoded.
SET NAMES utf8mb4;

CREATE TABLE IF NOT EXISTS messages (
  -- Order of the board. Gaps are normal: a repeated or a failed insert takes a number too.
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  -- The text as it was sent; escaped where it is shown, never here.
  message TEXT NOT NULL,
  -- UTC by the database's clock, also for rows that another program inserts. NULL: older than this column.
  created_at DATETIME(6) NULL DEFAULT (UTC_TIMESTAMP(6)),
  -- UTC of the last edit. NULL: never edited.
  edited_at DATETIME(6) NULL,
  -- What makes a repeated submit the same submit. NULL: inserted by another program.
  submit_key BINARY(16) NULL,
  UNIQUE KEY submit_key (submit_key)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
