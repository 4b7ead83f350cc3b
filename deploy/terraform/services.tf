data "aws_region" "here" {}

locals {
  # The schedule is beat's, in local time. Two of it do no harm, so that a new one starts before the old one stops.
  processes = {
    web = {
      command = ["gunicorn", "app:create_app()", "--bind", "0.0.0.0:5000", "--workers", "2"]
      cpu     = 256
      memory  = 1024
      count   = 2
    }
    worker = {
      command = ["celery", "-A", "app.celery", "worker", "--loglevel", "INFO", "--autoscale=4,1"]
      cpu     = 1024
      memory  = 2048
      count   = var.workers_least
    }
    beat = {
      command = ["celery", "-A", "app.celery", "beat", "--loglevel", "INFO", "--schedule", "/tmp/celerybeat-schedule", "--pidfile", ""]
      cpu     = 256
      memory  = 512
      count   = 1
    }
  }

  # Run before the services get a new image, as the tables' owner: docs/operations.md.
  tasks = merge(local.processes, {
    migrate = {
      command = ["flask", "db", "upgrade"]
      cpu     = 256
      memory  = 512
      count   = 0
    }
  })

  settings = merge(var.settings, local.buckets, local.queues, {
    CELERY_BROKER_URL          = "sqs://"
    AWS_REGION                 = data.aws_region.here.name
    VISIBILITY_TIMEOUT_SECONDS = tostring(local.visibility_timeout_seconds)
  })
}

resource "aws_cloudwatch_log_group" "task" {
  for_each = local.tasks

  name              = "/${var.name}/${each.key}"
  retention_in_days = 14
}

resource "aws_ecs_cluster" "cluster" {
  name = var.name
}

resource "aws_ecs_task_definition" "task" {
  for_each = local.tasks

  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  task_role_arn            = aws_iam_role.product.arn
  execution_role_arn       = aws_iam_role.start.arn

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([
    {
      name                   = each.key
      image                  = var.image
      essential              = true
      command                = each.value.command
      readonlyRootFilesystem = true
      # Seconds between SIGTERM and SIGKILL; a step that is running is finished in that time, or given back.
      stopTimeout  = 120
      mountPoints  = [{ sourceVolume = "tmp", containerPath = "/tmp" }]
      portMappings = each.key == "web" ? [{ containerPort = 5000 }] : []
      environment  = [for name, value in local.settings : { name = name, value = value }]
      secrets      = [for name, arn in local.secrets[each.key] : { name = name, valueFrom = arn }]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.task[each.key].name
          awslogs-region        = data.aws_region.here.name
          awslogs-stream-prefix = each.key
        }
      }
    }
  ])
}

resource "aws_ecs_service" "process" {
  for_each = local.processes

  name            = each.key
  cluster         = aws_ecs_cluster.cluster.id
  task_definition = aws_ecs_task_definition.task[each.key].arn
  desired_count   = each.value.count
  launch_type     = "FARGATE"

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.subnets
    security_groups = var.security_groups
  }

  dynamic "load_balancer" {
    for_each = each.key == "web" ? [var.web_target_group_arn] : []

    content {
      target_group_arn = load_balancer.value
      container_name   = "web"
      container_port   = 5000
    }
  }

  # The number of workers is the autoscaling's.
  lifecycle {
    ignore_changes = [desired_count]
  }
}
