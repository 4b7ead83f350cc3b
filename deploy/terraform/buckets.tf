locals {
  buckets = {
    S3_BUCKET_LETTERS_PDF  = "${var.name}-letters-pdf"
    S3_BUCKET_TEST_LETTERS = "${var.name}-test-letters"
    S3_BUCKET_INVALID_PDF  = "${var.name}-invalid-pdf"
    S3_BUCKET_LETTERS_SCAN = "${var.name}-letters-scan"
    S3_BUCKET_USER_FILES   = "${var.name}-user-files"
    S3_BUCKET_EXPORTS      = "${var.name}-exports"
  }

  # Days after which S3 deletes an object by itself, should the pipeline never have. Exports can be fetched for a week.
  # The users' own files have none: they live as long as their account.
  backstops = {
    S3_BUCKET_LETTERS_PDF  = var.backstop_days
    S3_BUCKET_TEST_LETTERS = var.backstop_days
    S3_BUCKET_INVALID_PDF  = var.backstop_days
    S3_BUCKET_LETTERS_SCAN = var.backstop_days
    S3_BUCKET_EXPORTS      = 30
  }
}

resource "aws_s3_bucket" "bucket" {
  for_each = local.buckets

  bucket = each.value
}

resource "aws_s3_bucket_public_access_block" "bucket" {
  for_each = aws_s3_bucket.bucket

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "bucket" {
  for_each = aws_s3_bucket.bucket

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "bucket" {
  for_each = aws_s3_bucket.bucket

  bucket = each.value.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "bucket" {
  for_each = aws_s3_bucket.bucket

  bucket = each.value.id

  rule {
    id     = "parts-of-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = contains(keys(local.backstops), each.key) ? [local.backstops[each.key]] : []

    content {
      id     = "backstop"
      status = "Enabled"

      filter {}

      expiration {
        days = rule.value
      }

      # Where versions are kept, an expired object is only hidden; the version itself goes here.
      noncurrent_version_expiration {
        noncurrent_days = rule.value
      }
    }
  }
}
