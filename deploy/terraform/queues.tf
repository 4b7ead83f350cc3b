locals {
  queues = {
    QUEUE_NIGHTLY  = "${var.name}-nightly"
    QUEUE_PERIODIC = "${var.name}-periodic"
    QUEUE_ACCOUNTS = "${var.name}-accounts"
  }

  # VISIBILITY_TIMEOUT_SECONDS: a queue that is there keeps its own, so both are set from here.
  visibility_timeout_seconds = 900
}

# A message only wakes what a row says is due: one that nobody survives is sent again by the dispatcher, later and with
# fewer rows. Here is what was dropped meanwhile, to look at; nothing is lost when it is emptied.
resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "queue" {
  for_each = local.queues

  name                       = each.value
  visibility_timeout_seconds = local.visibility_timeout_seconds
  message_retention_seconds  = 345600
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 20
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [for queue in aws_sqs_queue.queue : queue.arn]
  })
}
