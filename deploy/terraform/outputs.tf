output "migrate_task_definition" {
  description = "Run it before the services get a new image."
  value       = aws_ecs_task_definition.task["migrate"].arn
}

output "buckets" {
  description = "The buckets, by setting."
  value       = local.buckets
}
