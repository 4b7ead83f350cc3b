data "aws_iam_policy_document" "of_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# What the product may do: the very files that its tests run under, and its queues.
resource "aws_iam_role" "product" {
  name               = "${var.name}-product"
  assume_role_policy = data.aws_iam_policy_document.of_tasks.json
}

resource "aws_iam_role_policy" "retention" {
  name   = "retention"
  role   = aws_iam_role.product.id
  policy = templatefile("${path.module}/../aws/retention-worker-policy.json", local.buckets)
}

resource "aws_iam_role_policy" "accounts" {
  name   = "accounts"
  role   = aws_iam_role.product.id
  policy = templatefile("${path.module}/../aws/accounts-worker-policy.json", merge(local.buckets, { SES_IDENTITY = var.ses_identity }))
}

data "aws_iam_policy_document" "queues" {
  statement {
    sid       = "FindQueues"
    actions   = ["sqs:ListQueues"]
    resources = ["*"]
  }

  statement {
    sid = "SendAndReceive"

    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      "sqs:ReceiveMessage",
      "sqs:SendMessage",
    ]

    resources = [for queue in aws_sqs_queue.queue : queue.arn]
  }
}

resource "aws_iam_role_policy" "queues" {
  name   = "queues"
  role   = aws_iam_role.product.id
  policy = data.aws_iam_policy_document.queues.json
}

# What the platform may do to start the product: fetch the image, hand secrets over, write logs.
resource "aws_iam_role" "start" {
  name               = "${var.name}-start"
  assume_role_policy = data.aws_iam_policy_document.of_tasks.json
}

resource "aws_iam_role_policy_attachment" "start" {
  role       = aws_iam_role.start.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "secrets" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = concat(values(var.secrets), [var.owners_database_url_secret])
  }
}

resource "aws_iam_role_policy" "secrets" {
  name   = "secrets"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.secrets.json
}
