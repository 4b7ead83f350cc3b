# By what waits. Fewer workers cost nothing but time: one that is told to stop finishes its steps, and the chains go on.
resource "aws_appautoscaling_target" "workers" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.cluster.name}/${aws_ecs_service.process["worker"].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.workers_least
  max_capacity       = var.workers_most
}

resource "aws_appautoscaling_policy" "more" {
  name               = "${var.name}-more-workers"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.workers.service_namespace
  resource_id        = aws_appautoscaling_target.workers.resource_id
  scalable_dimension = aws_appautoscaling_target.workers.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 120

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 2
    }
  }
}

resource "aws_appautoscaling_policy" "fewer" {
  name               = "${var.name}-fewer-workers"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.workers.service_namespace
  resource_id        = aws_appautoscaling_target.workers.resource_id
  scalable_dimension = aws_appautoscaling_target.workers.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 300

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = -1
    }
  }
}

locals {
  depth_alarms = {
    more = {
      comparison = "GreaterThanOrEqualToThreshold"
      threshold  = var.messages_that_need_another_worker
      minutes    = 2
      action     = aws_appautoscaling_policy.more.arn
    }
    fewer = {
      comparison = "LessThanThreshold"
      threshold  = 1
      minutes    = 10
      action     = aws_appautoscaling_policy.fewer.arn
    }
  }

  queue_names = [for name in sort(keys(local.queues)) : local.queues[name]]
}

resource "aws_cloudwatch_metric_alarm" "depth" {
  for_each = local.depth_alarms

  alarm_name          = "${var.name}-${each.key}-workers"
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  evaluation_periods  = each.value.minutes
  alarm_actions       = [each.value.action]
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "waiting"
    expression  = "SUM(METRICS())"
    label       = "messages that wait"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.queue_names

    content {
      id = "queue${metric_query.key}"

      metric {
        namespace   = "AWS/SQS"
        metric_name = "ApproximateNumberOfMessagesVisible"
        period      = 60
        stat        = "Maximum"
        dimensions  = { QueueName = metric_query.value }
      }
    }
  }
}
